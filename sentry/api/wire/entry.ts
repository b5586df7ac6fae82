import { Entry, type EntryMask } from '../../../proto/gen/spire/api/types/types.js'
import type { TrustDomain } from '../../../spiffe/index.js'
import { SentryError } from '../../errors.js'
import type { RegistrationEntry } from '../../registration/entry.js'
import { assertEntryContent, memberId, workloadId } from '../../registration/entry-rules.js'
import { masked } from './mask.js'
import { prefixed } from './prefixed.js'
import { idToWire, textOfId, trustDomainFromWire } from './spiffe-id.js'

/** An entry is immutable, so it is put into wire form once. */
const wireForms = new WeakMap<RegistrationEntry, Entry>()

export function entryToWire(entry: RegistrationEntry): Entry {
  const held = wireForms.get(entry)
  if (held) return held
  const made: Entry = {
    id: entry.id,
    spiffeId: idToWire(entry.spiffeId),
    parentId: idToWire(entry.parentId),
    selectors: [...entry.selectors],
    x509SvidTtl: entry.x509SvidTtl,
    jwtSvidTtl: entry.jwtSvidTtl,
    federatesWith: [...entry.federatesWith],
    admin: entry.admin,
    downstream: entry.downstream,
    storeSvid: entry.storeSvid,
    dnsNames: [...entry.dnsNames],
    hint: entry.hint,
    expiresAt: entry.expiresAt,
    revisionNumber: entry.revision,
    createdAt: entry.createdAt,
    additionalAttributes: entry.attributes && { ...entry.attributes },
  }
  wireForms.set(entry, made)
  return made
}

export function maskedEntry(entry: RegistrationEntry, mask: EntryMask | undefined): Entry {
  return masked(entryToWire(entry), { mask, defaults: Entry.create(), always: ['id'] })
}

/** The fields that a caller may set, in the order in which SPIRE judges them. */
type Settable = Exclude<keyof EntryMask, 'revisionNumber' | 'createdAt'>

type Read = (wire: Entry, trustDomain: TrustDomain) => Partial<RegistrationEntry>

const readers: { readonly [Field in Settable]: Read } = {
  parentId: (wire, own) => ({
    parentId: prefixed('invalid parent ID', () => memberId(textOfId(wire.parentId), own)),
  }),
  spiffeId: (wire, own) => ({
    spiffeId: prefixed('invalid spiffe ID', () => workloadId(textOfId(wire.spiffeId), own)),
  }),
  federatesWith: (wire, own) => ({
    federatesWith: [...new Set(wire.federatesWith.map((name) => foreign(name, own)))],
  }),
  dnsNames: ({ dnsNames }) => ({ dnsNames }),
  selectors: ({ selectors }) => ({
    selectors: selectors.map(({ type, value }) => ({ type, value })),
  }),
  hint: ({ hint }) => ({ hint }),
  x509SvidTtl: ({ x509SvidTtl }) => ({ x509SvidTtl }),
  jwtSvidTtl: ({ jwtSvidTtl }) => ({ jwtSvidTtl }),
  admin: ({ admin }) => ({ admin }),
  downstream: ({ downstream }) => ({ downstream }),
  storeSvid: ({ storeSvid }) => ({ storeSvid }),
  expiresAt: ({ expiresAt }) => ({ expiresAt }),
  additionalAttributes: ({ additionalAttributes }) => ({
    attributes: additionalAttributes && { ...additionalAttributes },
  }),
}

/**
 * What `held` becomes when the fields that the mask names, or without a mask all that can be set, are
 * taken from the wire. Throws `CS_REQUEST_INVALID`, `CS_ENTRY_INVALID`.
 */
export function entryFromWire(
  wire: Entry,
  options: {
    readonly held: RegistrationEntry
    readonly mask: EntryMask | undefined
    readonly trustDomain: TrustDomain
  },
): RegistrationEntry {
  const { held, mask, trustDomain } = options
  const set = Object.entries(readers).filter(([field]) => !mask || mask[field as Settable])
  const entry = Object.assign({}, held, ...set.map(([, read]) => read(wire, trustDomain)))
  assertEntryContent(entry)
  return entry
}

function foreign(text: string, own: TrustDomain): TrustDomain {
  return prefixed('invalid federated trust domain', () => {
    const trustDomain = trustDomainFromWire(text)
    if (trustDomain === own) {
      throw new SentryError('CS_REQUEST_INVALID', 'an entry does not federate with its own')
    }
    return trustDomain
  })
}
