/** What a reader says of a film: agrees with the report, corrects it, or cannot read the film. */

import { announce } from "./announce.js";
import { byId, element } from "./element.js";
import { sentence, words } from "./numbers.js";
import { say } from "./service.js";

const ANY = "Finding";
const REMARK = 500; // characters, as the service takes them

/** The section of the report; nothing for a report that the service does not remember. */
export function feedback(film) {
  if (!film.report.id) return null;
  const section = element(
    "section", { class: "stage", "aria-labelledby": "feedback-title" }, element("h4", { id: "feedback-title" }, "Your reading"),
  );
  section.append(...(film.judged ? [judgedText(film)] : question(film, section)));
  return section;
}

/** "Agree", by the keyboard. */
export const agree = () => byId("agree")?.click();

function judgedText(film) {
  return element("p", { class: "judged", tabindex: "-1" }, film.judged);
}

function question(film, section) {
  const fault = element("p", { class: "fault", role: "alert" });
  const form = correction(film);
  const yes = element("button", { type: "button", id: "agree", title: "Agree (y)" }, "Agree");
  const no = element(
    "button", { type: "button", id: "correct", "aria-expanded": "false", "aria-controls": "correction" }, "Correct…",
  );
  let sending = false;
  const send = async (said) => {
    if (sending) return;
    sending = true;
    fault.textContent = "";
    try {
      film.judged = noted(said, await say(`v1/reports/${film.report.id}/feedback`, said));
      announce(`${film.name}: ${film.judged}`);
      const text = judgedText(film);
      const focused = section.contains(document.activeElement);
      section.replaceChildren(section.firstElementChild, text);
      if (focused) text.focus();
    } catch (problem) {
      fault.textContent = sentence(problem.message);
      sending = false;
    }
  };
  yes.addEventListener("click", () => send({ findings: seen(called(film.report)) }));
  no.addEventListener("click", () => {
    form.hidden = !form.hidden;
    yes.disabled = !form.hidden;
    no.setAttribute("aria-expanded", String(!form.hidden));
    if (!form.hidden) form.querySelector("input").focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(readForm(form));
  });
  return [element("div", { class: "answers" }, yes, no), form, fault];
}

function noted(said, { corrected }) {
  if (said.readable === false) return "Noted: not readable.";
  if (!corrected.length) return "Noted: you agree.";
  return `Noted: you corrected ${corrected.map((name) => (name === ANY ? "any finding" : words(name))).join(", ")}.`;
}

/** The names that the report calls present. */
function called({ finding, diseases }) {
  const present = Object.keys(diseases).filter((name) => diseases[name].present);
  return { names: Object.keys(diseases), present: new Set(finding.present ? [ANY, ...present] : []) };
}

/** As the service takes it. Where something is there and none of the 14 is named, nothing is said of each of them. */
function seen({ names, present }) {
  const any = present.has(ANY);
  if (any && present.size === 1) return { [ANY]: true };
  return Object.fromEntries([[ANY, any], ...names.map((name) => [name, present.has(name)])]);
}

function correction(film) {
  const { names, present } = called(film.report);
  const box = (name, text) => element(
    "label", { class: "check" }, element("input", { type: "checkbox", name, checked: present.has(name) }), text,
  );
  const findings = element(
    "fieldset", { class: "seen" }, element("legend", {}, "What do you see?"),
    box(ANY, "Any finding"), ...names.map((name) => box(name, words(name))),
  );
  const unreadable = element("input", { type: "checkbox", name: "unreadable" });
  const form = element(
    "form", { id: "correction", class: "correction", hidden: true }, findings,
    element("label", { class: "check" }, unreadable, "Not readable"),
    element("label", {}, "Remark, without names", element("textarea", { name: "remark", rows: "2", maxlength: String(REMARK) })),
    element("button", { class: "main" }, "Save"),
  );
  findings.addEventListener("change", ({ target }) => keepConsistent(findings, target));
  unreadable.addEventListener("change", () => { findings.disabled = unreadable.checked; });
  return form;
}

/** A finding is one of any; without any there is none. */
function keepConsistent(findings, changed) {
  const boxes = [...findings.querySelectorAll("input")];
  if (changed.name !== ANY && changed.checked) boxes[0].checked = true;
  if (changed.name === ANY && !changed.checked) for (const one of boxes) one.checked = false;
}

function readForm(form) {
  const remark = form.elements.remark.value;
  if (form.elements.unreadable.checked) return { readable: false, remark };
  const boxes = [...form.querySelectorAll(".seen input")];
  const names = boxes.map((one) => one.name).filter((name) => name !== ANY);
  const present = new Set(boxes.filter((one) => one.checked).map((one) => one.name));
  return { findings: seen({ names, present }), remark };
}
