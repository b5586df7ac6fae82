/** Where something stands in a text, counted from 1; line 0 where there is no text. */
export interface Place {
  readonly line: number
  readonly column: number
}

/** A value as YAML or JSON has it, with the place of every part. */
export type Located =
  | { readonly kind: 'map'; readonly place: Place; readonly entries: ReadonlyMap<string, Entry> }
  | { readonly kind: 'list'; readonly place: Place; readonly items: readonly Located[] }
  | { readonly kind: 'scalar'; readonly place: Place; readonly value: Scalar }

export type Scalar = string | number | boolean | null

/** One field of a map and where its name stands. */
export interface Entry {
  readonly place: Place
  readonly value: Located
}

export const NOWHERE: Place = { line: 0, column: 0 }

/** A value that came without lines, such as what `JSON.parse` gives. */
export function located(value: unknown): Located {
  if (Array.isArray(value)) return { kind: 'list', place: NOWHERE, items: value.map(located) }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(([name, item]): [string, Entry] => [
      name,
      { place: NOWHERE, value: located(item) },
    ])
    return { kind: 'map', place: NOWHERE, entries: new Map(entries) }
  }
  return { kind: 'scalar', place: NOWHERE, value: value as Scalar }
}
