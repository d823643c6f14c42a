// Package keyring seals small secrets with the store's master keys: secret access
// keys, session tokens, the data keys of encrypted objects. It does no I/O.
//
// # A keyring's text
//
// Keys are separated by commas or line ends, the first one seals, all of them open:
//
//	name:base64 of 32 bytes
//
// Lines that begin with # are skipped. So a key is rotated by putting a new one in
// front of it, and dropped when nothing that it sealed is left.
//
// # Sealed bytes, version 1
//
//	0  1  version, 1
//	1  1  length n of the key's name, 1 to 64
//	2  n  name
//	.. 16 random salt
//	.. 12 random nonce
//	.. .. ciphertext, as long as the plaintext
//	.. 16 tag
//
// The cipher is AES-256-GCM. Its key is HKDF-SHA256 of the master key, the salt and
// the context, so that no number of seals wears a master key out; all that lies
// before the ciphertext is authenticated. What was sealed in one context opens in no
// other: a context names what the secret is and whose, such as "secret-key/AKID".
package keyring
