import { expect, test } from 'vitest'
import { certificatesFromPem, toPem } from '../../spiffe/index.js'
import { codeOf } from './code-of.js'

const der = new Uint8Array(100).map((_, index) => index)
const block = toPem('CERTIFICATE', der)

test('reads back what it has written', () => {
  expect(certificatesFromPem(block)).toEqual([der])
  expect(certificatesFromPem(block + block)).toEqual([der, der])
  expect(certificatesFromPem(toPem('CERTIFICATE', Uint8Array.of(1)))).toEqual([Uint8Array.of(1)])
})

test.each([
  ['with CR LF', block.replaceAll('\n', '\r\n')],
  ['with text around', `Subject: x\n${block}more\n`],
  ['beside a key', `${toPem('PRIVATE KEY', Uint8Array.of(1, 2, 3))}${block}`],
  ['without a line end after it', block.trimEnd()],
])('finds a certificate %s', (_, text) => {
  expect(certificatesFromPem(text)).toEqual([der])
})

test.each([
  ['nothing', ''],
  ['a key only', toPem('PRIVATE KEY', Uint8Array.of(1, 2, 3))],
  ['no end', block.slice(0, 80)],
  ['a sign that is not base64', block.replace('A', '*')],
  ['padding in the middle', block.replace('AAEC', 'AA==')],
  ['an empty block', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n'],
  ['a good block and a damaged one', `${block}-----BEGIN CERTIFICATE-----\n`],
  ['blanks without end', `-----BEGIN CERTIFICATE-----${' '.repeat(1_000_000)}`],
  ['one beginning after another', '-----BEGIN CERTIFICATE-----\n'.repeat(50_000)],
])('refuses %s', (_, text) => {
  expect(codeOf(() => certificatesFromPem(text))).toBe('CS_CERTIFICATE_MALFORMED')
})
