/** Keys of labels, of services and nodes: `zone`, `example.com/zone`; at most 128 characters. */
export const LABEL_KEY_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$/;

export function isLabelKey(text: string): boolean {
  return LABEL_KEY_PATTERN.test(text);
}
