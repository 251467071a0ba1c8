// Curves of success, 0 to 1, against env steps.

const MARGIN = { top: 8, right: 20, bottom: 34, left: 38 };
const DOT = 3;  // radius in pixels

// Draws into a place that is part of the page, and again when its width changes.
// series: [{name, colour, dash, steps, value, low, high, runs}]
function chart(place, series, height) {
  const holder = make("div", { class: "chart" });
  const readout = make("p", { class: "soft readout", "aria-live": "polite" });
  place.replaceChildren(holder, readout);
  let width = 0;
  const draw = () => {
    const now = Math.max(260, holder.clientWidth);
    if (now === width) return;
    width = now;
    holder.replaceChildren(plot(series, width, height, readout));
  };
  draw();
  // In the next frame: what is drawn must not resize what is being observed.
  new ResizeObserver(() => requestAnimationFrame(draw)).observe(holder);
}

function plot(series, width, height, readout) {
  const last = Math.max(1, ...series.flatMap((s) => s.steps.slice(-1)));
  const inner = width - MARGIN.left - MARGIN.right;
  const x = (step) => MARGIN.left + (inner * step) / last;
  const y = (v) => height - MARGIN.bottom - v * (height - MARGIN.top - MARGIN.bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img",
    "aria-label": "success against environment steps" });
  for (const v of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(make("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(v), y2: y(v) }),
      make("text", { x: MARGIN.left - 6, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(2)));
  }
  for (const step of ticks(last, inner / 80)) {
    svg.append(make("text", { x: x(step), y: height - MARGIN.bottom + 16, "text-anchor": "middle" }, steps(step)));
  }
  svg.append(make("text", { x: width - MARGIN.right, y: height - 3, "text-anchor": "end" },
    "environment steps, all tasks"));
  for (const s of series) drawSeries(svg, s, x, y);
  const cursor = make("line", { class: "cursor", y1: y(0), y2: y(1), visibility: "hidden" });
  svg.append(cursor);
  const move = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) * (width / box.width) - MARGIN.left) / inner * last;
    if (at < 0 || at > last) return;
    cursor.setAttribute("x1", x(at));
    cursor.setAttribute("x2", x(at));
    cursor.setAttribute("visibility", "visible");
    // A curve says nothing beyond its ends, but for what the dot of a single step covers.
    const near = (DOT * last) / inner;
    const parts = series.filter((s) => s.steps[0] - near <= at && at <= s.steps[s.steps.length - 1] + near)
      .map((s) => `${s.name} ${number(s.value[nearest(s.steps, at)], 2)}`);
    readout.textContent = [steps(Math.round(at)), parts.join(" · ")].filter(Boolean).join(": ");
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  return svg;
}

function drawSeries(svg, s, x, y) {
  const at = (values, i) => `${x(s.steps[i]).toFixed(1)},${y(values[i]).toFixed(1)}`;
  const line = (values) => "M" + s.steps.map((_, i) => at(values, i)).join("L");
  if (!s.steps.length) return;
  if (s.low.every((v) => v !== null) && s.high.every((v) => v !== null)) {
    const lower = s.steps.map((_, i) => at(s.low, i)).reverse();
    svg.append(make("path", { d: line(s.high) + "L" + lower.join("L") + "Z", fill: s.colour, opacity: 0.18 }));
  }
  for (const run of s.runs.length <= 5 ? s.runs : []) {
    svg.append(make("path", { d: line(run), fill: "none", stroke: s.colour, "stroke-width": 1, opacity: 0.35 }));
  }
  svg.append(make("path", { d: line(s.value), fill: "none", stroke: s.colour, "stroke-width": 2,
    "stroke-dasharray": s.dash || null, "data-label": s.label }));
  if (s.steps.length === 1) {
    svg.append(make("circle", { cx: x(s.steps[0]), cy: y(s.value[0]), r: DOT, fill: s.colour }));
  }
}

function ticks(last, most) {
  const rough = last / Math.max(2, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= rough);
  const found = [];
  for (let step = 0; step <= last * 1.0001; step += size) found.push(step);
  return found;
}

function nearest(sorted, at) {
  let best = 0;
  for (let i = 1; i < sorted.length; i++) {
    if (Math.abs(sorted[i] - at) < Math.abs(sorted[best] - at)) best = i;
  }
  return best;
}
