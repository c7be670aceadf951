/** Why an aggregate cannot be opened, a plex not be attached, a volume not be as wanted. */
export type AggregateErrorCode =
  /** The devices have no labels: format them. */
  | 'BLANK'
  /** A mixture of devices, or devices of another aggregate. */
  | 'LABELS'
  /** A later format version. */
  | 'VERSION'
  /** The plex is being filled by a resync that did not end: its content must not be used. */
  | 'RESYNCING'
  /** Labels but no valid root. */
  | 'NO_ROOT'
  /** The devices are not as large as those of the other plex; a volume is asked to be smaller than what it uses. */
  | 'SIZE'
  /** Devices are joining the image just now: ask again when that consistency point is complete. */
  | 'GROWING'
  /** More devices than an aggregate can have. */
  | 'TOO_MANY'
  /** Properties of a volume that are too large to be kept. */
  | 'PROPERTIES'
  /** A traditional volume among flexible ones, a flexible one where a traditional one belongs, or a second volume there. */
  | 'TYPE'
  /** A volume is being converted. */
  | 'CONVERTING'
  /** No room for what has to be written. */
  | 'FULL'
  /** The other plex was said to have the same image, and does not. */
  | 'UNEQUAL'
  /** A metafile is older here than on the other plex, with the same root. */
  | 'OLDER'
  /** A metafile is damaged on every plex. */
  | 'DAMAGED'

export class AggregateError extends Error {
  readonly code: AggregateErrorCode
  constructor(code: AggregateErrorCode, message: string) {
    super(message)
    this.name = 'AggregateError'
    this.code = code
  }
}
