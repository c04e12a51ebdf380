// Package machine knows the machine that a run happens on: its fingerprint,
// what it can and cannot do, what is missing and how to get it, which CPUs a
// contender may use, and what killed runs left behind.
//
// It is a leaf: it imports only package uring of this module.
package machine
