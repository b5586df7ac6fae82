export const CR = 0x0d
export const LF = 0x0a
export const SPACE = 0x20
export const TAB = 0x09
export const ZERO = 0x30
export const COLON = 0x3a

/** Characters of a token (RFC 9110 §5.6.2): methods and header names. */
export const TOKEN = tableOf((code) => /[A-Za-z0-9!#$%&'*+.^_`|~-]/.test(String.fromCharCode(code)))

/** Characters of a header value (RFC 9110 §5.5): what is visible, blanks, and bytes above ASCII. */
export const VALUE = tableOf((code) => code === TAB || (code >= SPACE && code !== 0x7f))

/** The value of a hexadecimal digit, 255 for anything else. */
export const HEX = Uint8Array.from({ length: 256 }, (_, code) => {
  const digit = '0123456789abcdef'.indexOf(String.fromCharCode(code).toLowerCase())
  return digit === -1 ? 255 : digit
})

/** Whether a value may stand in a header as it is. */
export function isHeaderValue(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    if (VALUE[text.charCodeAt(at)] !== 1) return false
  }
  return true
}

function tableOf(holds: (code: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, code) => (holds(code) ? 1 : 0))
}
