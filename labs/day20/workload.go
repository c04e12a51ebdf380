package day20

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// workload are the lab's parameters, of workload.params.
type workload struct {
	slots int // records of a writer
	dim   int
	// shares of changes, of all
	small, deleted, rolledBack float64
	theta                      float64
	poll, relay                time.Duration
}

func workloadOf(params map[string]string) (workload, error) {
	var w workload
	for _, p := range []struct {
		name string
		read func(string) error
	}{
		{"records", func(s string) (err error) { w.slots, err = strconv.Atoi(s); return err }},
		{"dim", func(s string) (err error) { w.dim, err = strconv.Atoi(s); return err }},
		{"small_share", func(s string) (err error) { w.small, err = strconv.ParseFloat(s, 64); return err }},
		{"delete_share", func(s string) (err error) { w.deleted, err = strconv.ParseFloat(s, 64); return err }},
		{"rollback_share", func(s string) (err error) { w.rolledBack, err = strconv.ParseFloat(s, 64); return err }},
		{"theta", func(s string) (err error) { w.theta, err = strconv.ParseFloat(s, 64); return err }},
		{"poll_interval", func(s string) (err error) { w.poll, err = time.ParseDuration(s); return err }},
		{"relay_interval", func(s string) (err error) { w.relay, err = time.ParseDuration(s); return err }},
	} {
		if err := p.read(params[p.name]); err != nil {
			return w, fmt.Errorf("param %s: %w", p.name, err)
		}
	}
	share := func(x float64) bool { return x >= 0 && x <= 1 }
	if w.slots < 1 || w.slots > slotsMax || w.dim < 2 || w.dim > 2048 || !share(w.small) || !share(w.deleted) || !share(w.rolledBack) ||
		w.small+w.deleted > 1 || w.theta < 0 || w.theta > 2 || w.poll <= 0 || w.relay <= 0 {
		return w, fmt.Errorf("params out of range: %+v", w)
	}
	return w, nil
}

// slotsMax bounds a writer's records: ids are writer × slotsMax + slot.
const slotsMax = 4096

// rolledBackID is where the ids of records begin that only cancelled transactions write.
const rolledBackID = 1 << 40

// Operations of a change.
const (
	opWrite  = iota // the record with a new meaning, made if it is not there
	opSmall         // the record with the same meaning and a vector that moved by next to nothing
	opDelete        // the record
)

// change is a request: what to do with which record. A record's n grows with
// each change of it; meaning is the n of the last change of its meaning.
type change struct {
	op         uint8
	rolledBack bool // cancel a transaction of other records first
	id         uint64
	n          uint64
	meaning    uint64
}

const changeLen = 26

func (c change) append(dst []byte) []byte {
	flags := byte(0)
	if c.rolledBack {
		flags = 1
	}
	dst = append(dst, c.op, flags)
	dst = binary.LittleEndian.AppendUint64(dst, c.id)
	dst = binary.LittleEndian.AppendUint64(dst, c.n)
	return binary.LittleEndian.AppendUint64(dst, c.meaning)
}

func parseChange(body []byte) (change, error) {
	if len(body) != changeLen || body[0] > opDelete || body[1] > 1 {
		return change{}, fmt.Errorf("a request of %d bytes is no change", len(body))
	}
	le := binary.LittleEndian
	return change{op: body[0], rolledBack: body[1] == 1, id: le.Uint64(body[2:]), n: le.Uint64(body[10:]), meaning: le.Uint64(body[18:])}, nil
}

// smallStep is how far a small change moves each element, beside elements of
// about 1: a cosine distance of some 5e-7.
const smallStep = 0.001

// vector is the record's at this change: the direction that its meaning gives,
// moved a little by each small change.
func (c change) vector(dim int) []float32 {
	meaning := rand.New(rand.NewPCG(c.id, c.meaning))
	moved := rand.New(rand.NewPCG(c.id, c.n^math.MaxUint64))
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(meaning.NormFloat64())
		if c.n != c.meaning {
			v[i] += smallStep * float32(moved.NormFloat64())
		}
	}
	return v
}
