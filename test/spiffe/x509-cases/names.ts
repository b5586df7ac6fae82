import { name } from '../../support/certificate.js'
import { ID } from '../x509-world.js'
import { INVALID, leafCase, NOT_SPIFFE, PROFILE, type X509Case } from './case.js'

/** Names that are not one SPIFFE ID. */
export const namesCases: readonly X509Case[] = [
  { name: 'no certificate at all', proves: 'X509-34', chain: () => [], expect: NOT_SPIFFE },
  leafCase(
    'no alternative name',
    'X509-3',
    () => ({ names: 'none', subject: name(ID) }),
    NOT_SPIFFE,
  ),
  leafCase('the ID as a DNS name', 'X509-3', () => ({ names: { dns: [ID] } }), NOT_SPIFFE),
  leafCase(
    'two SPIFFE IDs',
    'X509-2',
    () => ({ names: { uris: [ID, 'spiffe://td.example/b'] } }),
    NOT_SPIFFE,
  ),
  leafCase('the same SPIFFE ID twice', 'X509-2', () => ({ names: { uris: [ID, ID] } }), NOT_SPIFFE),
  leafCase(
    'a SPIFFE ID and a web address',
    'X509-2',
    () => ({ names: { uris: [ID, 'https://td.example/a'] } }),
    NOT_SPIFFE,
  ),
  leafCase(
    'a web address only',
    'X509-38',
    () => ({ names: { uris: ['https://td.example/a'] } }),
    NOT_SPIFFE,
  ),
  leafCase(
    'the scheme in capitals',
    'X509-38 OPEN-1',
    () => ({ names: { uris: ['SPIFFE://td.example/a'] } }),
    NOT_SPIFFE,
  ),
  leafCase(
    'a trailing slash',
    'X509-39 OPEN-19',
    () => ({ names: { uris: ['spiffe://td.example/'] } }),
    NOT_SPIFFE,
  ),
  leafCase(
    'the ID of a trust domain',
    'X509-39',
    () => ({ names: { uris: ['spiffe://td.example'] } }),
    PROFILE,
  ),
  leafCase(
    'a NUL in the ID',
    'PX-13',
    () => ({ names: { uris: ['spiffe://td.example/a\0.evil'] } }),
    INVALID,
  ),
  leafCase(
    'a line end in a DNS name',
    'PX-13',
    () => ({ names: { uris: [ID], dns: ['a\nb'] } }),
    INVALID,
  ),
  leafCase(
    'a letter beyond ASCII in a DNS name',
    'PX-13',
    () => ({ names: { uris: [ID], dns: ['é.example'] } }),
    INVALID,
  ),
  leafCase(
    'an IP name of five bytes',
    'X509-33',
    () => ({ names: { uris: [ID], ips: [new Uint8Array(5)] } }),
    INVALID,
  ),
  leafCase('an empty list of names', 'X509-33', () => ({ names: {} }), INVALID),
]
