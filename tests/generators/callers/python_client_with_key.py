"""Calls a service that requires API keys through the client that openapi-python-client makes of its document."""

import json
import sys

from convpool_client import AuthenticatedClient, Client
from convpool_client.api.pool import pool_forward
from convpool_client.models import Mode, PoolForwardRequest, PoolForwardResult, Problem

base_url, key = sys.argv[1:]
body = PoolForwardRequest(mode=Mode.MAX, kernel_size=2, input_=[[[[1], [2]], [[3], [4]]]])
pooled = pool_forward.sync(client=AuthenticatedClient(base_url=base_url, token=key), body=body)
refused = pool_forward.sync(client=Client(base_url=base_url), body=body)
assert isinstance(pooled, PoolForwardResult)
assert isinstance(refused, Problem)
print(json.dumps([pooled.output, refused.status]))
