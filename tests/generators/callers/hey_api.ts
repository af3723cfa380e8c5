import { client } from "./client/client.gen";
import { convForward, convShape, poolBackward, type FlatTensor } from "./client";

client.setConfig({ baseUrl: process.argv[2] as `http://${string}` });

async function main() {
  const flat: FlatTensor = { dtype: "float64", shape: [1, 1, 1, 1], data: [16777217] };
  const conv = await convForward({
    body: { input: flat, weight: [[[[1]]]], bias: [0.5], data_format: "NCHW", stride: [1, 1], padding: "same" },
    throwOnError: true,
  });
  const pool = await poolBackward({
    body: { grad_output: [[[[3]]]], input: [[[[1], [2]], [[4], [3]]]], mode: "max", kernel_size: 2 },
    throwOnError: true,
  });
  const shape = await convShape({
    body: { shapes: { input: [512, 56, 56, 64], weight: [3, 3, 64, 64] }, padding: "same" },
    throwOnError: true,
  });
  const failed = await convForward({ body: { input: flat, weight: [[[[1]]]], stride: 0 } });
  console.log(JSON.stringify({
    output: (conv.data.output as FlatTensor).data,
    grad_input: pool.data.grad_input,
    multiply_accumulates: shape.data.multiply_accumulates,
    problem: [failed.error?.status, failed.error?.errors[0].pointer],
  }));
}

main();
