package surrealsource

// newest remembers the sequence number of the last change of each key that was
// seen lately. Two generations bound it: a key is known for at least
// generationLen further keys, and changes overtake each other only while their
// writes return, a few threads apart.
type newest struct {
	process  uint32
	db       uint64
	now, old map[string]uint64
}

const generationLen = 1 << 16

// advance notes a change and reports whether it is later than what was seen of
// its key. A new process or database begins anew: after a crash without synced
// commits the engine gives numbers again.
func (n *newest) advance(process uint32, db uint64, key string, sequence uint64) bool {
	if n.now == nil || n.process != process || n.db != db {
		*n = newest{process: process, db: db, now: map[string]uint64{}}
	}
	last, known := n.now[key]
	if !known {
		last, known = n.old[key]
	}
	if known && last >= sequence {
		return false
	}
	if len(n.now) >= generationLen {
		n.now, n.old = make(map[string]uint64, generationLen), n.now
	}
	n.now[key] = sequence
	return true
}
