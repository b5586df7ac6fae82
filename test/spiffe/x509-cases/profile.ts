import {
  CERT_SIGN,
  CLIENT_AUTH,
  CODE_SIGNING,
  CRL_SIGN,
  DIGITAL_SIGNATURE,
  ID,
  issuer,
  root,
  SERVER_AUTH,
} from '../x509-world.js'
import { ACCEPTED, INVALID, issuerCase, leafCase, PROFILE, type X509Case } from './case.js'

/** Leaves that break the profile of X509-SVID. */
export const profileCases: readonly X509Case[] = [
  leafCase('a CA as a peer', 'X509-5 X509-35', () => ({ ca: true, keyUsage: CERT_SIGN }), PROFILE),
  leafCase('a leaf with cA true', 'X509-35', () => ({ ca: true }), PROFILE),
  leafCase(
    'a leaf with keyCertSign',
    'X509-36',
    () => ({ keyUsage: DIGITAL_SIGNATURE | CERT_SIGN }),
    PROFILE,
  ),
  leafCase(
    'a leaf with cRLSign',
    'X509-37',
    () => ({ keyUsage: DIGITAL_SIGNATURE | CRL_SIGN }),
    PROFILE,
  ),
  leafCase('a leaf without a key usage', 'X509-22 OPEN-20', () => ({ keyUsage: 'none' }), PROFILE),
  leafCase('a leaf without digitalSignature', 'X509-26', () => ({ keyUsage: 4 }), PROFILE),
  leafCase('a leaf with an empty key usage', 'X509-26', () => ({ keyUsage: 0 }), PROFILE),
  {
    name: 'the root itself as a peer',
    proves: 'X509-14',
    chain: () => [root({ names: { uris: [ID] } })],
    expect: PROFILE,
  },
  {
    name: 'an intermediate as a peer',
    proves: 'X509-14',
    chain: () => [issuer({ names: { uris: [ID] } })],
    expect: PROFILE,
  },
  leafCase('a leaf for signing code', 'PX-13', () => ({ purposes: [CODE_SIGNING] }), INVALID),
  {
    ...leafCase(
      'a server with a certificate for clients',
      'PX-13',
      () => ({ purposes: [CLIENT_AUTH] }),
      INVALID,
    ),
    usage: 'server',
  },
  {
    ...leafCase(
      'a client with a certificate for servers',
      'PX-13',
      () => ({ purposes: [SERVER_AUTH] }),
      INVALID,
    ),
    usage: 'client',
  },
  {
    ...leafCase(
      'a client with a certificate for clients',
      'PX-13',
      () => ({ purposes: [CLIENT_AUTH] }),
      ACCEPTED,
    ),
    usage: 'client',
  },
  leafCase(
    'a certificate for clients where either will do',
    'PX-13',
    () => ({ purposes: [CLIENT_AUTH] }),
    ACCEPTED,
  ),
  {
    ...issuerCase(
      'an intermediate for servers above a client',
      'X509-32',
      () => ({ purposes: [SERVER_AUTH] }),
      INVALID,
    ),
    usage: 'client',
  },
]
