/** In a lecture the whole picture is to be seen at once, as large as it can be. */

const [SMALLEST, LARGEST] = [22, 72]; // pixels
const FORMULA = 170; // height that is left for it, and for the caption of the figures
const TITLE = 40; // height of a panel's title and margin
const OPERATOR = 60; // width of a sign between two figures, with its margins

/** Set the size of the cells, and whether panels stand one above the other. */
export function fitCells() {
  const picture = document.getElementById("picture");
  if (!picture) return;
  const figures = [...picture.querySelectorAll("figure")].map((figure) => [...figure.querySelectorAll("table")]);
  const free = innerHeight - picture.getBoundingClientRect().top - scrollY - FORMULA;
  const cellSize = (beside) => {
    const panels = figures.map((tables) => ({
      across: beside(tables) * Math.max(1, ...tables.map(({ rows }) => rows[0].cells.length)),
      above: Math.ceil(tables.length / beside(tables)),
      down: Math.max(1, ...tables.map(({ rows }) => rows.length)),
    }));
    const width = innerWidth - 80 - OPERATOR * figures.length;
    const heights = panels.map(({ above, down }) => (free - TITLE * above) / (above * down));
    return Math.min(LARGEST, width / panels.reduce((sum, { across }) => sum + across, 0), ...heights);
  };
  const square = cellSize((tables) => Math.max(1, Math.ceil(Math.sqrt(tables.length))));
  const stacked = cellSize(() => 1);
  const { style, classList } = document.documentElement;
  classList.toggle("stacked", stacked > square);
  style.setProperty("--cell", `${Math.floor(Math.max(SMALLEST, square, stacked))}px`);
}
