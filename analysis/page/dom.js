"use strict";
// Elements and numbers. Text goes in as text only, never as markup.

function make(tag, attributes, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "rect", "circle"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(digits);
}

// A number of parameters, in full where the pointer rests.
function size(value) {
  return value === null || value === undefined ? "–" : make("span", { title: value.toLocaleString("en") }, steps(value));
}

function steps(value) {
  if (value >= 1e6) return +(value / 1e6).toPrecision(4) + "M";
  return value >= 1e3 ? +(value / 1e3).toPrecision(4) + "k" : String(value);
}

function short(task) {
  return task.replace(/-v3$/, "");
}

function swatch(colour) {
  return make("span", { class: "swatch", style: "background:" + colour });
}

function chip(text, pressed, press, colour) {
  return make("button", { class: "chip", type: "button", "aria-pressed": String(pressed), onclick: press },
    colour ? swatch(colour) : null, text);
}
