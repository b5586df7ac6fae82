import { expect, test } from 'vitest'
import { authorize, parseSpiffeId, parseTrustDomain } from '../../spiffe/index.js'
import { codeOf, refusalOf } from './code-of.js'

const id = parseSpiffeId
const pay = id('spiffe://prod.example/pay')

test.each([
  ['any', authorize.any(), pay, 'accepted'],
  ['the ID', authorize.id(pay), pay, 'accepted'],
  ['another ID', authorize.id(pay), id('spiffe://prod.example/ship'), 'CS_PEER_NOT_AUTHORIZED'],
  [
    'an ID that begins alike',
    authorize.id(pay),
    id('spiffe://prod.example/pay/admin'),
    'CS_PEER_NOT_AUTHORIZED',
  ],
  [
    'ID-28 an ID in another case',
    authorize.id(pay),
    id('spiffe://prod.example/Pay'),
    'CS_PEER_NOT_AUTHORIZED',
  ],
  ['one of two', authorize.oneOf([pay, id('spiffe://a/b')]), pay, 'accepted'],
  [
    'none of two',
    authorize.oneOf([pay, id('spiffe://a/b')]),
    id('spiffe://a/c'),
    'CS_PEER_NOT_AUTHORIZED',
  ],
  ['nobody', authorize.oneOf([]), pay, 'CS_PEER_NOT_AUTHORIZED'],
  ['a member', authorize.memberOf(parseTrustDomain('prod.example')), pay, 'accepted'],
  [
    'ID-43 the same path of a stranger',
    authorize.memberOf(parseTrustDomain('prod.example')),
    id('spiffe://other.example/pay'),
    'CS_PEER_NOT_AUTHORIZED',
  ],
  [
    'a stranger that begins alike',
    authorize.memberOf(parseTrustDomain('prod.example')),
    id('spiffe://prod.example.evil/pay'),
    'CS_PEER_NOT_AUTHORIZED',
  ],
])('judges %s', (_, judge, peer, expected) => {
  expect(codeOf(() => judge(peer))).toBe(expected)
})

test('names both who came and who was expected', () => {
  expect(refusalOf(() => authorize.id(pay)(id('spiffe://a/b')))?.message).toBe(
    'peer is spiffe://a/b; expected spiffe://prod.example/pay',
  )
})
