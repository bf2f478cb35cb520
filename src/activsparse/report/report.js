"use strict";
// Draws the figures and lets the reader choose the image under the masks. Everything is in the page itself.
(async () => {
  for (const button of document.querySelectorAll("[data-photo]"))
    button.addEventListener("click", () => {
      document.documentElement.style.setProperty("--photo", `var(--photo-${button.dataset.photo})`);
      for (const other of document.querySelectorAll("[data-photo]"))
        other.setAttribute("aria-pressed", String(other === button));
    });

  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    const [ink, line, card] = ["--ink", "--line", "--card"].map((name) => style.getPropertyValue(name).trim());
    const lines = { gridcolor: line, linecolor: line, zerolinecolor: line };
    for (const [id, { data, layout }] of Object.entries(figures)) {
      const colours = {
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: ink, family: "system-ui, sans-serif", size: 12 },
        hoverlabel: { bgcolor: card, bordercolor: line, font: { color: ink } },
        xaxis: { ...layout.xaxis, ...lines },
        yaxis: { ...layout.yaxis, ...lines },
      };
      Plotly.react(id, data, { ...layout, ...colours }, { responsive: true, displaylogo: false, displayModeBar: false });
    }
    document.documentElement.dataset.drawn = "yes";
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
