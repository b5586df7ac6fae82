import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import {
  idOfTrustDomain,
  isMemberOf,
  makeSpiffeId,
  parseSpiffeId,
  parseTrustDomain,
  parseWorkloadId,
  pathOf,
  trustDomainOf,
} from '../../spiffe/index.js'
import { codeOf } from './code-of.js'

interface IdVector {
  readonly name: string
  readonly text: string
  readonly proves: readonly string[]
}

const vectors = JSON.parse(
  readFileSync(new URL('../vectors/spiffe/ids.json', import.meta.url), 'utf8'),
) as { readonly accept: readonly IdVector[]; readonly reject: readonly IdVector[] }

const rows = (list: readonly IdVector[]) =>
  list.map(({ name, text, proves }) => [proves.join(' '), name, text] as const)

test.each(rows(vectors.accept))('%s accepts %s', (_, __, text) => {
  expect(parseSpiffeId(text)).toBe(text)
})

test.each(rows(vectors.reject))('%s refuses %s', (_, __, text) => {
  expect(codeOf(() => parseSpiffeId(text))).toBe('CS_SPIFFE_ID_INVALID')
})

const allBytes = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte))

test('ID-10 lets exactly the allowed bytes into a trust domain', () => {
  const accepted = allBytes.filter(
    (byte) => codeOf(() => parseTrustDomain(`a${byte}b`)) === 'accepted',
  )
  expect(accepted.join('')).toBe('-.0123456789_abcdefghijklmnopqrstuvwxyz')
})

test('ID-20 lets exactly the allowed bytes into a path segment', () => {
  const accepted = allBytes.filter(
    (byte) => byte !== '/' && codeOf(() => parseSpiffeId(`spiffe://td/a${byte}b`)) === 'accepted',
  )
  expect(accepted.join('')).toBe(
    '-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz',
  )
})

test('ID-13 handles a trust domain the same whatever it looks like', () => {
  for (const name of ['10.0.0.1', 'td.example', '_x-.', 'localhost']) {
    const id = makeSpiffeId(parseTrustDomain(name), '/a')
    expect([trustDomainOf(id), pathOf(id)]).toEqual([name, '/a'])
  }
})

test('ID-28 keeps the case of a path', () => {
  const pay = parseSpiffeId('spiffe://td.example/Pay')
  expect(pay).not.toBe(parseSpiffeId('spiffe://td.example/pay'))
})

test('ID-43 counts an ID as a member of its own trust domain and of no lookalike', () => {
  const id = parseSpiffeId('spiffe://prod.example/admin')
  expect(isMemberOf(id, parseTrustDomain('prod.example'))).toBe(true)
  expect(isMemberOf(id, parseTrustDomain('prod.example.evil'))).toBe(false)
  expect(isMemberOf(id, parseTrustDomain('prod.exampl'))).toBe(false)
})

test('ID-33 makes the ID of a trust domain without a path', () => {
  expect(idOfTrustDomain(parseTrustDomain('prod.example'))).toBe('spiffe://prod.example')
})

test.each([
  ['nothing', '', 'accepted'],
  ['an absolute path', '/a/b', 'accepted'],
  ['a path without its slash', 'a/b', 'CS_SPIFFE_ID_INVALID'],
  ['a lone slash', '/', 'CS_SPIFFE_ID_INVALID'],
  ['a path that would change the trust domain', '.evil/a', 'CS_SPIFFE_ID_INVALID'],
])('joins a trust domain and %s', (_, path, expected) => {
  expect(codeOf(() => makeSpiffeId(parseTrustDomain('td.example'), path))).toBe(expected)
})

test('OPEN-9 takes no ID of a trust domain for a workload', () => {
  expect(codeOf(() => parseWorkloadId('spiffe://td.example'))).toBe('CS_SPIFFE_ID_INVALID')
  expect(parseWorkloadId('spiffe://td.example/a')).toBe('spiffe://td.example/a')
})
