import { execFileSync } from 'node:child_process'
import { createPrivateKey, createPublicKey, verify } from 'node:crypto'
import { Pkcs10CertificateRequest } from '@peculiar/x509'
import { expect, test } from 'vitest'
import { requestKey } from '../../../agent/sentry/csr.js'
import { bytesOf, children, readElement, sequenceItems } from '../../../spiffe/asn1/index.js'
import { missing, openssl } from '../../support/tools.js'

test('a request is signed by the key it carries, and the key is the one that is kept', async () => {
  const { csr, privateKeyDer } = await requestKey()
  const [info, , signature] = sequenceItems(readElement(csr))
  const kept = createPublicKey(
    createPrivateKey({ key: Buffer.from(privateKeyDer), format: 'der', type: 'pkcs8' }),
  )
  expect(verify('sha256', bytesOf(info!), kept, bytesOf(signature!).subarray(3))).toBe(true)
  expect(kept.asymmetricKeyDetails).toEqual({ namedCurve: 'prime256v1' })
})

test('the key is written as Node and OpenSSL write it', async () => {
  const { privateKey, privateKeyDer, publicKeyInfo } = await requestKey()
  expect(Buffer.from(privateKeyDer)).toEqual(privateKey.export({ format: 'der', type: 'pkcs8' }))
  expect(Buffer.from(publicKeyInfo)).toEqual(
    createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
  )
})

test('a request asks for nothing but its key: no name and no attributes', async () => {
  const { csr } = await requestKey()
  const [info] = sequenceItems(readElement(csr))
  const [version, subject, , attributes] = sequenceItems(info)
  expect([...bytesOf(version!)]).toEqual([2, 1, 0])
  expect(children(subject!)).toEqual([])
  expect(children(attributes!)).toEqual([])
})

test('two requests never share a key', async () => {
  const [first, second] = await Promise.all([requestKey(), requestKey()])
  expect(first.privateKeyDer).not.toEqual(second.privateKeyDer)
})

test('other code reads and verifies the request', async () => {
  const { csr } = await requestKey()
  const parsed = new Pkcs10CertificateRequest(new Uint8Array(csr))
  expect(await parsed.verify()).toBe(true)
})

test.skipIf(missing('CSR against OpenSSL', openssl))('OpenSSL verifies the request', async () => {
  const { csr } = await requestKey()
  const text = execFileSync('openssl', ['req', '-inform', 'DER', '-verify', '-noout', '-text'], {
    input: csr,
    stdio: ['pipe', 'pipe', 'pipe'],
    encoding: 'utf8',
  })
  expect(text).toContain('ecdsa-with-SHA256')
})
