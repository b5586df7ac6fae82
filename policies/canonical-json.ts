/** What JSON can say. */
export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [name: string]: Json | undefined }

/** Deeper values than these are not ours. */
const MAX_DEPTH = 32

/**
 * JSON with sorted keys and without insignificant space: equal values give equal bytes. Fields that
 * are `undefined` are left out. Throws `RangeError` for a value that is nested too deeply.
 */
export function canonicalJson(value: Json): string {
  return write(value, 0)
}

/** Byte order of texts, which for ASCII is the order of their code units. */
export function byBytes(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0
}

function write(value: Json, depth: number): string {
  if (depth > MAX_DEPTH) throw new RangeError('value is nested too deeply')
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (isList(value)) return `[${value.map((item) => write(item, depth + 1)).join(',')}]`
  const fields = Object.keys(value)
    .sort(byBytes)
    .flatMap((name) => {
      const field = value[name]
      return field === undefined ? [] : [`${JSON.stringify(name)}:${write(field, depth + 1)}`]
    })
  return `{${fields.join(',')}}`
}

/** `Array.isArray` does not narrow a readonly array out of a union. */
const isList = (value: object): value is readonly Json[] => Array.isArray(value)
