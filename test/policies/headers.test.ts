import { describe, expect, test } from 'vitest'
import { connectionNames, removesHeader } from '../../policies/index.js'

const none = { hopByHop: new Set<string>() }

describe('headers of the caller', () => {
  test.each([
    ['BY-P15', 'x-original-url'],
    ['BY-P15', 'x-rewrite-url'],
    ['BY-P16', 'x-http-method-override'],
    ['BY-P16', 'x-http-method'],
    ['BY-P16', 'x-method-override'],
    ['BY-H06', 'x-envoy-original-path'],
    ['BY-H08', 'x-forwarded-proto'],
    ['BY-H08', 'forwarded'],
    ['HD-16', 'x_a'],
    ['a forged client certificate', 'x-forwarded-client-cert'],
    ['a forged caller', 'x-countersign-caller'],
    ['a forged decision', 'x-countersign-decision'],
  ])('%s: %s is removed', (_, name) => {
    expect(removesHeader(name, none)).toBe(true)
  })

  test.each(['accept', 'x-request-id', 'authorization', 'x-countersignature', 'x-forwardedness'])(
    '%s stays',
    (name) => {
      expect(removesHeader(name, none)).toBe(false)
    },
  )

  test('BY-H07: what Connection names is removed, in any case and from several headers', () => {
    const hopByHop = connectionNames(['keep-alive, X-A', ' X-Forwarded-Host ,,'])
    expect([...hopByHop]).toEqual(['keep-alive', 'x-a', 'x-forwarded-host'])
    expect(removesHeader('x-a', { hopByHop })).toBe(true)
    expect(removesHeader('x-b', { hopByHop })).toBe(false)
  })

  test('a trusted proxy in front may say for whom it forwards, and no more', () => {
    const trusting = { ...none, trustForwarded: true }
    expect(removesHeader('x-forwarded-for', trusting)).toBe(false)
    expect(removesHeader('forwarded', trusting)).toBe(false)
    expect(removesHeader('x-forwarded-client-cert', trusting)).toBe(true)
  })
})
