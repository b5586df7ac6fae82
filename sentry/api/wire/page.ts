import { SentryError } from '../../errors.js'

export interface PageRequest {
  readonly pageSize: number
  readonly pageToken: string
}

export interface Page<T> {
  readonly items: readonly T[]
  readonly nextPageToken: string
}

interface Created<T> {
  readonly value: T
  readonly created: number
}

/**
 * Pages in the order of creation. As in SPIRE, a page that holds anything has a token, even the last; a
 * size of zero or less means everything at once. Throws `CS_REQUEST_INVALID`.
 */
export function pageOf<T>(
  rowsAfter: (position: number) => Iterable<Created<T>>,
  { pageSize, pageToken }: PageRequest,
  keep: (value: T) => boolean,
): Page<T> {
  const limit = pageSize > 0 ? pageSize : Number.POSITIVE_INFINITY
  const items: T[] = []
  let last = 0
  for (const { value, created } of rowsAfter(pageSize > 0 ? positionIn(pageToken) : 0)) {
    if (!keep(value)) continue
    items.push(value)
    last = created
    if (items.length >= limit) break
  }
  return { items, nextPageToken: pageSize > 0 && items.length > 0 ? String(last) : '' }
}

function positionIn(token: string): number {
  if (token === '') return 0
  if (!/^\d{1,15}$/.test(token)) {
    throw new SentryError('CS_REQUEST_INVALID', `could not parse token '${token.slice(0, 32)}'`)
  }
  return Number(token)
}
