/**
 * A probability and its threshold with three decimals, or as many as it takes to tell which is higher:
 * "0.300 below 0.300" would be no reason.
 */
export function shown({ probability, threshold }) {
  let digits = 3;
  const alike = () => probability !== threshold && probability.toFixed(digits) === threshold.toFixed(digits);
  while (digits < 8 && alike()) digits += 1;
  return { probability: probability.toFixed(digits), threshold: threshold.toFixed(digits) };
}

/** A reason that the service gives, as a sentence. */
export const sentence = (reason) => reason.replace(/^./, (first) => first.toUpperCase()).replace(/([^.!?])$/, "$1.");

/** "Pleural_Thickening" in words. */
export const words = (finding) => finding.replaceAll("_", " ");
