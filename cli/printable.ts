/** Control characters, and those that turn the direction of text: both can make a terminal show what is not there. */
const DECEPTIVE = /[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu

/** Text from a stranger, in one line and harmless to a terminal. */
export function printable(text: string): string {
  return text.replaceAll(DECEPTIVE, escaped)
}

/** The same for text of several lines whose line ends are our own. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
