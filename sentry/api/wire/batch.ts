import { status } from '@grpc/grpc-js'
import type { Status } from '../../../proto/gen/spire/api/types/types.js'
import { statusOf } from '../reply.js'

/** Go clients read the status of every item without looking whether there is one. */
export function okStatus(): Status {
  return { code: status.OK, message: 'OK' }
}

export function refusedStatus(error: unknown): Status {
  const { code, details } = statusOf(error)
  return { code, message: details }
}

/** Items are independent: what one throws becomes its own result. */
export function eachItem<Item, Handled, Refused>(
  items: readonly Item[],
  handle: (item: Item) => Handled,
  refused: (status: Status, item: Item) => Refused,
): (Handled | Refused)[] {
  return items.map((item) => {
    try {
      return handle(item)
    } catch (error) {
      return refused(refusedStatus(error), item)
    }
  })
}

/** So many at a time that other calls are not kept waiting for long. */
export function* inSlices<T>(items: readonly T[], size: number): IterableIterator<readonly T[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size)
}
