// Draws every figure of the page, in the colours of its theme: "@ink" in a figure stands for the page's --ink.
const dark = matchMedia("(prefers-color-scheme: dark)");

function painted(value, key, style) {
  if (Array.isArray(value)) return value.map((v) => painted(v, key, style));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v, k, style)]));
  if (typeof value === "string" && value.startsWith("@") && /color/i.test(key))
    return style.getPropertyValue("--" + value.slice(1)).trim();
  return value;
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  for (const place of document.querySelectorAll(".plot")) {
    const figure = painted(JSON.parse(place.querySelector("script").textContent), "", style);
    Plotly.react(place.querySelector("div"), figure.data, figure.layout, { responsive: true, displayModeBar: false });
  }
}

draw();
dark.addEventListener("change", draw);
