import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

const client = createClient<paths>({ baseUrl: process.argv[2] });
type FlatTensor = components["schemas"]["FlatTensor"];
type ConvForwardResult = components["schemas"]["ConvForwardResult"];
type PoolBackwardResult = components["schemas"]["PoolBackwardResult"];

async function main() {
  const flat: FlatTensor = { dtype: "float64", shape: [1, 1, 1, 1], data: [16777217] };
  const conv = await client.POST("/conv/forward", {
    body: { input: flat, weight: [[[[1]]]], bias: [0.5], data_format: "NCHW", stride: [1, 1], padding: "same" },
  });
  const pool = await client.POST("/pool/backward", {
    body: { grad_output: [[[[3]]]], input: [[[[1], [2]], [[4], [3]]]], mode: "max", kernel_size: 2 },
  });
  const shape = await client.POST("/conv/shape", {
    body: { shapes: { input: [512, 56, 56, 64], weight: [3, 3, 64, 64] }, padding: "same" },
  });
  const failed = await client.POST("/conv/forward", { body: { input: flat, weight: [[[[1]]]], stride: 0 } });
  console.log(JSON.stringify({
    output: ((conv.data as ConvForwardResult).output as FlatTensor).data,
    grad_input: (pool.data as PoolBackwardResult).grad_input,
    multiply_accumulates: shape.data?.multiply_accumulates,
    problem: [failed.error?.status, failed.error?.errors[0].pointer],
  }));
}

main();
