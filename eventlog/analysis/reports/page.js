"use strict";
(() => {
  document.documentElement.classList.add("js");

  // --- tables: a click on a head sorts, numbers by value and texts by their language ---
  const key = (row, i) => {
    const cell = row.cells[i];
    return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
  };
  const order = (a, b) => {
    const numbers = (typeof a === "number") - (typeof b === "number");
    if (numbers) return -numbers;
    return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => {
      const sort = () => {
        const falls = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", falls ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].sort((a, b) => order(key(a, i), key(b, i)));
        table.tBodies[0].append(...(falls ? rows.reverse() : rows));
      };
      head.tabIndex = 0;
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
      });
    });
  }

  // --- runs: only the rows that hold all words ---
  for (const field of document.querySelectorAll("input.filter")) {
    const rows = [...field.parentElement.querySelectorAll("tbody tr")];
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.classList.toggle("hidden", !words.every((word) => text.includes(word)));
      }
    });
  }

  // --- charts: the values at the step under the pointer ---
  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
  };
  for (const chart of document.querySelectorAll(".chart")) {
    const data = JSON.parse(chart.querySelector("script").textContent);
    const svg = chart.querySelector(":scope > svg"), cross = svg.querySelector(".cross");
    const tip = document.createElement("div");
    tip.className = "tip hidden";
    chart.append(tip);
    const hide = () => { tip.classList.add("hidden"); cross.style.visibility = "hidden"; };
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), home = chart.getBoundingClientRect();
      const place = (event.clientX - box.left) / box.width * data.width;
      const share = (place - data.left) / (data.right - data.left);
      if (share < -0.02 || share > 1.02) return hide();
      const x = data.low + share * (data.high - data.low);
      const shown = data.curves.filter((one) => {
        const box = document.querySelector(`.legend .k${one.place}`);
        return one.x.length && (!box || box.checked);
      });
      if (!shown.length) return hide();
      const step = shown.map((one) => one.x[nearest(one.x, x)]).reduce((a, b) => Math.abs(b - x) < Math.abs(a - x) ? b : a);
      const lines = [document.createElement("div")];
      lines[0].textContent = `step ${step}`;
      for (const one of shown) {
        const i = nearest(one.x, step), line = document.createElement("div");
        if (step < one.x[0] || step > one.x[one.x.length - 1]) continue;
        const mark = document.querySelector(`.legend .k${one.place} + svg`);
        if (mark) line.append(mark.cloneNode(true));
        const name = document.createElement("bdi"), value = document.createElement("b");
        name.textContent = one.name;
        value.textContent = one.y[i] === null ? "NaN" : `${one.y[i]}${one.s && one.s[i] !== null ? ` ± ${one.s[i]}` : ""}`;
        line.append(name, value);
        lines.push(line);
      }
      tip.replaceChildren(...lines);
      tip.classList.remove("hidden");
      const at = data.left + (step - data.low) / (data.high - data.low) * (data.right - data.left);
      cross.setAttribute("x1", at); cross.setAttribute("x2", at); cross.style.visibility = "visible";
      const left = event.clientX - home.left;
      tip.style.left = left > home.width / 2 ? "" : `${left + 16}px`;
      tip.style.right = left > home.width / 2 ? `${home.width - left + 16}px` : "";
      tip.style.top = `${Math.max(8, event.clientY - home.top - 20)}px`;
    });
  }
})();
