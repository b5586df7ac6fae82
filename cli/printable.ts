/** Control characters, separators of lines, halves of characters, and those that turn the direction of text: each can make a terminal show what is not there. */
const DECEPTIVE = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu

/** The colours that `paint` sets and ends. */
const COLOUR = String.raw`\u001b\[(?:[12]|22|3[1239])m`
const COLOURS = new RegExp(`(${COLOUR})`)
const COLOURS_AND_LINES = new RegExp(`(${COLOUR}|[\\n\\t])`)
const LINES = /([\n\t])/

/** Text from a stranger, in one line and harmless to a terminal. */
export function printable(text: string): string {
  return text.replaceAll(DECEPTIVE, escaped)
}

/** The same for text of several lines whose line ends and tabs are our own. JSON stays JSON. */
export function printableLines(text: string): string {
  return between(LINES, text)
}

/** The same for one line that may have colours of our own. */
export function printableCell(text: string): string {
  return between(COLOURS, text)
}

/** The same for all that a command prints, with our own line ends and, where they are wanted, colours. */
export function printableText(text: string, { colour }: { readonly colour: boolean }): string {
  return between(colour ? COLOURS_AND_LINES : LINES, text)
}

/** What the pattern finds is ours and stays. */
function between(ours: RegExp, text: string): string {
  return text
    .split(ours)
    .map((part, at) => (at % 2 === 0 ? printable(part) : part))
    .join('')
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
