import type { X509Signer } from '../signing/signer.js'
import type { SvidTemplate } from '../svid-template.js'
import { type CertificateFrame, fillsFrame, frameOf } from './certificate-frame.js'
import { assertSaysWhatWasAsked } from './issued-check.js'

type Chain = readonly [Uint8Array, ...Uint8Array[]]

/** Throws `CS_ISSUE_CHECK_FAILED` for a certificate that does not say what its template says. */
export type ResultCheck = (
  chain: Chain,
  issued: { readonly template: SvidTemplate; readonly signer: X509Signer },
) => void

/** One for each kind of key and lifetime in use. */
const MAX_FRAMES = 64

/**
 * Holds every certificate to the profile, but does not parse every one, which would take a third of
 * the time it takes to issue it.
 *
 * The first certificate of a signer, a kind of key and a validity is parsed and checked field by field.
 * The next ones pass if they are the same bytes, around exactly what their own templates say: then
 * the profile and the parser could find nothing in them but what they found in the first. Times move
 * on with every second, so at least one certificate a second is parsed, and any doubt leads there too.
 */
export function resultCheck(): ResultCheck {
  const framesOf = new WeakMap<X509Signer, Map<string, CertificateFrame>>()
  return (chain, { template, signer }) => {
    const frames = framesOf.get(signer) ?? new Map<string, CertificateFrame>()
    const name = `${template.key.kind} ${template.notAfter - template.notBefore}`
    const frame = frames.get(name)
    if (frame !== undefined && fillsFrame(chain[0], { frame, template })) return

    assertSaysWhatWasAsked(chain, { template, signer })
    if (frames.size >= MAX_FRAMES) frames.clear()
    frames.set(name, frameOf(chain[0], template))
    framesOf.set(signer, frames)
  }
}
