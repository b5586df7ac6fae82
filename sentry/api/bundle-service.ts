import type {
  AppendBundleRequest,
  BundleServer,
  ListFederatedBundlesRequest,
  ListFederatedBundlesResponse,
} from '../../proto/gen/spire/api/server/bundle/v1/bundle.js'
import type { Bundle, BundleMask } from '../../proto/gen/spire/api/types/types.js'
import { SpiffeError, type TrustDomain } from '../../spiffe/index.js'
import { type BundleRecord, bundleTable } from '../bundles/bundle-record.js'
import { appendToOwnBundle } from '../bundles/own-bundle.js'
import { SentryError } from '../errors.js'
import type { ApiContext } from './context.js'
import { federatedBundleWrites, recordBundle } from './federated-bundles.js'
import type { CallContext, ServerCalls } from './server-calls.js'
import { jwtAuthoritiesFromWire, maskedBundle, x509AuthoritiesFromWire } from './wire/bundle.js'
import { pageOf } from './wire/page.js'
import { prefixed } from './wire/prefixed.js'
import { trustDomainFromWire } from './wire/spiffe-id.js'

/** `spire.api.server.bundle.v1.Bundle`. Publishing by downstream servers is off. */
export function bundleService(context: ApiContext, calls: ServerCalls): BundleServer {
  const { trustDomain, datastore } = context
  const bundles = datastore.view(bundleTable)
  const writes = federatedBundleWrites(context)
  return {
    getBundle: calls.unary(async ({ outputMask }, call) => {
      await context.limits.take('read', call)
      return shown(bundles.get(trustDomain), outputMask)
    }),
    countBundles: calls.unary(() => ({ count: bundles.size })),
    appendBundle: calls.unary((request, call) => appendBundle(context, request, call)),
    getFederatedBundle: calls.unary(async (request, call) => {
      await context.limits.take('read', call)
      const asked = federated(context, request.trustDomain)
      return shown(bundles.get(asked), request.outputMask)
    }),
    listFederatedBundles: calls.unary((request) => listFederated(context, request)),
    batchCreateFederatedBundle: calls.unary((request, call) => writes.create(request, call)),
    batchUpdateFederatedBundle: calls.unary((request, call) => writes.update(request, call)),
    batchSetFederatedBundle: calls.unary((request, call) => writes.set(request, call)),
    batchDeleteFederatedBundle: calls.unary((request, call) => writes.remove(request, call)),
    publishJwtAuthority: calls.unary(() => off('downstream authorities are not supported')),
    publishWitAuthority: calls.unary(() => off('WIT-SVID functionality is not yet implemented')),
  }
}

async function appendBundle(
  context: ApiContext,
  request: AppendBundleRequest,
  call: CallContext,
): Promise<Bundle> {
  const { trustDomain, datastore } = context
  if (request.x509Authorities.length + request.jwtAuthorities.length === 0) {
    throw new SentryError('CS_REQUEST_INVALID', 'no authorities to append')
  }
  const added = {
    x509Authorities: x509AuthoritiesFromWire(request.x509Authorities),
    jwtAuthorities: jwtAuthoritiesFromWire(request.jwtAuthorities),
  }
  const { value } = await datastore.write((draft) => appendToOwnBundle(draft, trustDomain, added))
  if (value) recordBundle(context, call, { change: 'appended', bundle: value })
  await context.audit.settled()
  return shown(value, request.outputMask)
}

/** As in SPIRE the own bundle is taken out after paging, so a page may hold fewer than asked. */
function listFederated(
  { datastore, trustDomain }: ApiContext,
  request: ListFederatedBundlesRequest,
): ListFederatedBundlesResponse {
  const bundles = datastore.view(bundleTable)
  const rowsAfter = (position: number) => bundles.createdAfter(position)
  const { items, nextPageToken } = pageOf(rowsAfter, request, () => true)
  const federated = items.filter((bundle) => bundle.trustDomain !== trustDomain)
  return {
    bundles: federated.map((bundle) => maskedBundle(bundle, request.outputMask)),
    nextPageToken,
  }
}

function federated({ trustDomain }: ApiContext, text: string): TrustDomain {
  const asked = prefixed('trust domain argument is not valid', () => trustDomainFromWire(text))
  if (asked !== trustDomain) return asked
  throw new SentryError(
    'CS_REQUEST_INVALID',
    "getting a federated bundle for the server's own trust domain is not allowed",
  )
}

function shown(bundle: BundleRecord | undefined, mask: BundleMask | undefined): Bundle {
  if (!bundle) throw new SpiffeError('CS_BUNDLE_NOT_FOUND', 'bundle not found')
  return maskedBundle(bundle, mask)
}

function off(message: string): never {
  throw new SentryError('CS_FEATURE_OFF', message)
}
