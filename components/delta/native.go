package delta

import "math"

// Native is the Checker in Go, plainly: in float64, and with one map.
type Native struct {
	o    Options
	sets int
	// entries holds, per set, its keys from the least to the most recently
	// checked.
	entries map[uint64][]nativeEntry
}

type nativeEntry struct {
	key    Key
	vector []float64
}

var _ Checker = (*Native)(nil)

// NewNative makes an empty one.
func NewNative(o Options) (*Native, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	sets := 1
	for sets*ways < o.Capacity {
		sets *= 2
	}
	return &Native{o: o, sets: sets, entries: map[uint64][]nativeEntry{}}, nil
}

// Check implements Checker.
func (n *Native) Check(keys []Key, vectors []float32, threshold float32, out []Verdict) error {
	if err := checkBatch(n.o, keys, vectors, threshold, out); err != nil {
		return err
	}
	for i, key := range keys {
		out[i] = n.judge(key, n.taken(vectors[i*n.o.Dim:(i+1)*n.o.Dim]), float64(threshold))
	}
	return nil
}

func (n *Native) judge(key Key, v []float64, threshold float64) Verdict {
	for _, x := range v {
		if x-x != 0 {
			return Verdict{Decision: Invalid}
		}
	}
	set := key.Low % uint64(n.sets)
	list := n.entries[set]
	for at, e := range list {
		if e.key != key {
			continue
		}
		far := cosineDistance(e.vector, v)
		list = append(list[:at:at], list[at+1:]...)
		verdict := Verdict{float32(far), Skip}
		if far > threshold {
			verdict.Decision, e.vector = Changed, v
		}
		n.entries[set] = append(list, e)
		return verdict
	}
	if len(list) == ways {
		list = list[1:]
	}
	n.entries[set] = append(list, nativeEntry{key, v})
	return Verdict{Decision: Unknown}
}

// taken is the vector as it is compared.
func (n *Native) taken(v []float32) []float64 {
	out, largest := make([]float64, len(v)), 0.0
	for i, x := range v {
		out[i] = float64(x)
		largest = math.Max(largest, math.Abs(out[i]))
	}
	if n.o.Precision == Int8 && largest > 0 && !math.IsInf(largest, 0) {
		for i := range out {
			out[i] = math.RoundToEven(out[i] * 127 / largest)
		}
	}
	return out
}

func cosineDistance(a, b []float64) float64 {
	var dot, aa, bb float64
	for i := range a {
		dot, aa, bb = dot+a[i]*b[i], aa+a[i]*a[i], bb+b[i]*b[i]
	}
	if aa == 0 || bb == 0 {
		if aa == bb {
			return 0
		}
		return 1
	}
	return 1 - dot/math.Sqrt(aa*bb)
}

// Forget implements Checker.
func (n *Native) Forget(keys []Key) error {
	for _, key := range keys {
		set := key.Low % uint64(n.sets)
		for at, e := range n.entries[set] {
			if e.key == key {
				n.entries[set] = append(n.entries[set][:at:at], n.entries[set][at+1:]...)
				break
			}
		}
	}
	return nil
}

// Close implements Checker.
func (n *Native) Close() error { return nil }
