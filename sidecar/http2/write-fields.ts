import type { OutgoingHttpHeaders } from 'node:http2'
import type { ForwardedHead, Headers, ResponseHead } from '../exchange.js'

/** The fields of a request, as Node takes them. */
export function requestFields(head: ForwardedHead, scheme: 'http' | 'https'): OutgoingHttpHeaders {
  const { method, target, host, headers, body } = head
  const fields = fieldsOf(headers)
  fields[':method'] = method
  fields[':scheme'] = scheme
  fields[':path'] = target
  if (host !== '') fields[':authority'] = host
  if (typeof body === 'number') fields['content-length'] = body
  return fields
}

export function responseFields({ status, headers, body }: ResponseHead): OutgoingHttpHeaders {
  const fields = fieldsOf(headers)
  fields[':status'] = status
  if (typeof body === 'number') fields['content-length'] = body
  return fields
}

/** Equal names become a list of values. The object has no prototype, so no name can reach one. */
export function fieldsOf(headers: Headers): OutgoingHttpHeaders {
  const fields = Object.create(null) as OutgoingHttpHeaders
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at] ?? ''
    const value = headers[at + 1] ?? ''
    const held = fields[name]
    if (held === undefined) fields[name] = value
    else if (Array.isArray(held)) held.push(value)
    else fields[name] = [String(held), value]
  }
  return fields
}
