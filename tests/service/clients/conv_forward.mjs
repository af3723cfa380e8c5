// Sends a convolution as JSON with fetch, and prints the answer.
const body = {
  padding: "same",
  input: [[[[1], [2], [3]], [[4], [5], [6]], [[7], [8], [9]]]],
  weight: [[[[1]], [[0]]], [[[0]], [[-1]]]],
  bias: [0.5],
};
const response = await fetch(`${process.argv[2]}/conv/forward`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});
console.log(await response.text());
process.exitCode = response.status === 200 ? 0 : 1;
