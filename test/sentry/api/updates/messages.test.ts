import { expect, test } from 'vitest'
import { systemClock } from '../../../../platform/clock.js'
import { FollowResponse } from '../../../../proto/gen/countersign/sentry/v1/updates.js'
import { changeBetween, nothingHeld } from '../../../../sentry/api/updates/held-state.js'
import { encodeChange } from '../../../../sentry/api/updates/messages.js'
import { plainEntry, type RegistrationEntry } from '../../../../sentry/registration/entry.js'
import { turns } from '../../../../sentry/turns.js'
import { makeSpiffeId, parseTrustDomain } from '../../../../spiffe/index.js'

const trustDomain = parseTrustDomain('prod.example')
const parentId = makeSpiffeId(trustDomain, '/node')

const entry = (id: string, hint = ''): RegistrationEntry => ({
  ...plainEntry({
    id,
    spiffeId: makeSpiffeId(trustDomain, `/${id}`),
    parentId,
    selectors: [{ type: 'unix', value: 'uid:1' }],
    createdAt: 7n,
  }),
  hint,
})

async function messagesOf(change: ReturnType<typeof changeBetween>) {
  const oversize: number[] = []
  const options = {
    sequence: 9,
    full: true,
    turns: turns(systemClock),
    onOversize: ({ bytes }: { readonly bytes: number }) => void oversize.push(bytes),
  }
  const encoded: Uint8Array[] = []
  for await (const message of encodeChange(change, options)) encoded.push(message)
  return { encoded, oversize, decoded: encoded.map((bytes) => FollowResponse.decode(bytes)) }
}

const holding = (...entries: RegistrationEntry[]) => ({
  ...nothingHeld,
  entries: new Map(entries.map((one) => [one.id, one])),
})

test('what is joined from parts reads as one message', async () => {
  const before = holding(entry('a'), entry('b'))
  const after = { ...holding(before.entries.get('a')!, entry('c')), bundles: new Map() }
  const { decoded } = await messagesOf(changeBetween(before, after))
  expect(decoded).toHaveLength(1)
  expect(decoded[0]).toMatchObject({
    sequence: 9n,
    full: true,
    more: false,
    removedEntryIds: ['b'],
    entries: [{ id: 'c', createdAt: 7n, spiffeId: { trustDomain, path: '/c' } }],
  })
})

test('nothing at all is still one message', async () => {
  const { decoded } = await messagesOf(changeBetween(nothingHeld, nothingHeld))
  expect(decoded).toEqual([{ ...FollowResponse.create(), sequence: 9n, full: true }])
})

test('no message is longer than a mebibyte, and only the first of them is the beginning', async () => {
  const large = Array.from({ length: 40 }, (_, index) => entry(`e${index}`, 'h'.repeat(100_000)))
  const { encoded, decoded } = await messagesOf(changeBetween(nothingHeld, holding(...large)))
  expect(Math.max(...encoded.map(({ length }) => length))).toBeLessThanOrEqual(1024 * 1024)
  expect(decoded.map(({ full, more }) => [full, more])).toEqual([
    [true, true],
    ...decoded.slice(1, -1).map(() => [false, true]),
    [false, false],
  ])
  expect(decoded.flatMap(({ entries }) => entries)).toHaveLength(40)
})

test('what no peer would take is left out and reported', async () => {
  const huge = entry('huge', 'h'.repeat(5 * 1024 * 1024))
  const change = changeBetween(nothingHeld, holding(entry('a'), huge, entry('b')))
  const { decoded, oversize } = await messagesOf(change)
  expect(decoded.flatMap(({ entries }) => entries.map(({ id }) => id))).toEqual(['a', 'b'])
  expect(oversize).toHaveLength(1)
})
