package annbench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestRun is the benchmark at a size that runs as a test. hnswlib takes part
// where it is installed.
func TestRun(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	all := make([][]float32, 1100)
	for i := range all {
		all[i] = make([]float32, 16)
		for j := range all[i] {
			all[i][j] = float32(rng.NormFloat64())
		}
	}
	o := Options{Vectors: all, Base: 1000, Queries: 100, K: 10, M: 16, EfConstruction: 100, Ef: []int{10, 100}, Rounds: 2}
	results, err := Run(context.Background(), o)
	engines := 3
	if errors.Is(err, ErrNoPeer) {
		t.Log(err)
		o.WithoutPeer, engines = true, 2
		results, err = Run(context.Background(), o)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 2*engines {
		t.Fatalf("%d results of %d engines at 2 values of ef", len(results), engines)
	}
	for i, r := range results {
		if r.QueriesPerS <= 0 || r.BuildS <= 0 || r.Ef == 100 && r.Recall < 0.95 {
			t.Errorf("%+v", r)
		}
		if i >= engines && r.Recall < results[i-engines].Recall {
			t.Errorf("recall falls with ef: %+v, then %+v", results[i-engines], r)
		}
	}
	for _, bad := range []Options{{}, {Vectors: all, Base: 1100, Queries: 1, K: 1, Rounds: 1, Ef: []int{1}}} {
		if _, err := Run(context.Background(), bad); err == nil {
			t.Errorf("%d vectors and %d queries accepted", bad.Base, bad.Queries)
		}
	}
}

func gloveText(words, numbers int) string {
	var b strings.Builder
	b.WriteString(`{"size":2,"words":["vectors","\"vectors\"x"],"vectors":{`)
	for w := range words {
		if w > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"w\"]}%d":[`, w)
		for i := range numbers {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%d.5e-1", w+i)
		}
		b.WriteByte(']')
	}
	b.WriteString(`},"unkVector":[0,0]}`)
	return b.String()
}

func TestParseGlove(t *testing.T) {
	raw, err := parseGlove(bufio.NewReader(strings.NewReader(gloveText(3, GloveDim+2))))
	if err != nil {
		t.Fatal(err)
	}
	got := rows(raw)
	if len(got) != 3 || got[2][1] != 0.35 || got[0][99] != 9.95 {
		t.Errorf("%d vectors", len(got))
	}
	good := gloveText(2, GloveDim)
	for name, bad := range map[string]string{"nothing": "", "no vectors": gloveText(0, 0), "too short": gloveText(2, GloveDim-1), "cut off": good[:len(good)-40], "no number": strings.Replace(good, "0.5e-1", "x", 1)} {
		if _, err := parseGlove(bufio.NewReader(strings.NewReader(bad))); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

func FuzzParseGlove(f *testing.F) {
	f.Add(gloveText(1, GloveDim))
	f.Add(`"vectors":{"a":[1]}`)
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := parseGlove(bufio.NewReader(strings.NewReader(text)))
		if err == nil && len(rows(raw)) == 0 {
			t.Fatal("neither vectors nor an error")
		}
	})
}
