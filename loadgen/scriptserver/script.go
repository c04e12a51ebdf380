// Package scriptserver answers each request when a script says, and keeps a
// record of when it really did: a load generator that measures it can be held
// against what is known.
//
// It shares no code with the generator beside the frame protocol: epoll and
// plain system calls here, io_uring there.
package scriptserver

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"time"
)

// Script says when requests are answered. The zero value answers at once.
type Script struct {
	// Base is how long every request takes from its arrival.
	Base time.Duration
	// SlowShare of the requests take Slow instead of Base. Which ones depends on
	// Seed and their ids alone, so that anyone can compute it.
	SlowShare float64
	Slow      time.Duration
	Seed      uint64
	// Stall is how long no answer leaves, from the arrival of the request with
	// the id StallFrom on: what was due in between leaves at its end.
	Stall     time.Duration
	StallFrom uint64
}

func (s Script) check() error {
	switch {
	case s.Base < 0 || s.Slow < 0 || s.Stall < 0:
		return fmt.Errorf("script %+v: negative duration", s)
	case !(s.SlowShare >= 0 && s.SlowShare <= 1): // NaN included
		return fmt.Errorf("script: share of slow requests %g: want 0 to 1", s.SlowShare)
	}
	return nil
}

// Delay is how long the request takes, a stall aside.
func (s Script) Delay(id uint64) time.Duration {
	if s.SlowShare > 0 && uniform(s.Seed, id) < s.SlowShare {
		return s.Slow
	}
	return s.Base
}

// uniform is a number in [0, 1) that depends on the seed and the id.
func uniform(seed, id uint64) float64 {
	var text [16]byte
	binary.LittleEndian.PutUint64(text[:], seed)
	binary.LittleEndian.PutUint64(text[8:], id)
	h := fnv.New64a()
	_, _ = h.Write(text[:])
	// FNV mixes its last bytes weakly; murmur's finaliser spreads them.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return float64(x>>11) / math.Exp2(53)
}

// Held is when an answer that is due at a time leaves, when the stall began at
// stallNs; 0: it has not begun.
func (s Script) Held(dueNs, stallNs int64) int64 {
	if stallNs == 0 || dueNs < stallNs {
		return dueNs
	}
	return max(dueNs, stallNs+int64(s.Stall))
}
