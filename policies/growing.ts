/** A list of 32-bit numbers that grows; far smaller and faster than an array of numbers. */
export interface Growing {
  readonly length: number
  /** Only what is below `length` is meant. Replaced when the list grows: do not keep it. */
  readonly values: Int32Array
  push(value: number): void
}

export function growing(): Growing {
  let values = new Int32Array(64)
  let length = 0
  return {
    get length() {
      return length
    },
    get values() {
      return values
    },
    push(value) {
      if (length === values.length) values = grown(values)
      values[length++] = value
    },
  }
}

/** What was pushed, and nothing more. */
export const trimmed = ({ values, length }: Growing): Int32Array => values.slice(0, length)

function grown(values: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(values.length * 2)
  larger.set(values)
  return larger
}
