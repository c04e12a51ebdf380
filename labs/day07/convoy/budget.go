package convoy

import "sync/atomic"

// leaseWrites is how many writes a thread takes out of the budget at a time, so
// that the threads seldom meet there.
const leaseWrites = 1024

// budget bounds the bytes that threads write together. It has one owner for
// each thread's lease; the rest is shared. It is not split evenly beforehand,
// because the inode lock lets one thread write a thousand times in a row while
// the others sleep.
type budget struct {
	writes atomic.Int64 // not leased yet
	leases []lease
}

// lease is one thread's, kept off its neighbours' cache lines.
type lease struct {
	writes int
	_      [56]byte
}

func newBudget(threads, recordBytes int) *budget {
	b := &budget{leases: make([]lease, threads)}
	b.writes.Store(int64(BytesMax / recordBytes))
	return b
}

// take reports whether thread i may write once more.
func (b *budget) take(i int) bool {
	l := &b.leases[i]
	if l.writes == 0 {
		if b.writes.Add(-leaseWrites) < 0 {
			return false
		}
		l.writes = leaseWrites
	}
	l.writes--
	return true
}
