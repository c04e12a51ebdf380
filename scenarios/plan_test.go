package scenarios

import (
	"reflect"
	"testing"
	"testing/quick"
	"time"
)

// planned turns random numbers into a scenario.
func planned(seed uint64, trials []uint8, contenders, overhead uint8) *Scenario {
	names := []string{"a", "b", "c", "d", "e"}[:1+int(contenders)%5]
	s := &Scenario{Seed: seed}
	for i, n := range trials[:min(len(trials), 6)] {
		s.Points = append(s.Points, Point{ID: string(rune('p' + i)), Trials: 1 + int(n)%8, Contenders: names[:1+i%len(names)]})
	}
	if len(s.Points) > 0 {
		s.Overhead = &Overhead{Contender: "a", Point: "p", Trials: 1 + int(overhead)%10, Duration: time.Hour}
	}
	return s
}

// Whatever the scenario: every round holds each contender of a point exactly
// once, with one seed for all of them; rounds don't mix; the trials that cost the
// probes come once in each round that asks for one, with a duration of their own;
// equal scenarios plan alike.
func TestPlanProperties(t *testing.T) {
	property := func(seed uint64, trials []uint8, contenders, overhead uint8) bool {
		s := planned(seed, trials, contenders, overhead)
		slots := plan(s)
		if !reflect.DeepEqual(slots, plan(s)) {
			t.Log("planned twice, got two plans")
			return false
		}
		type key struct {
			contender, point string
			round            int
			costing          bool
		}
		seen := map[key]int{}
		seeds := map[[2]any]uint64{}
		lastRound := 0
		for i, slot := range slots {
			if slot.index != i || slot.round < lastRound {
				t.Logf("slot %d: %+v after round %d", i, slot, lastRound)
				return false
			}
			lastRound = slot.round
			if slot.costing != (slot.point.Duration == time.Hour) {
				t.Logf("%+v lasts %s", slot, slot.point.Duration)
				return false
			}
			seen[key{slot.contender, slot.point.ID, slot.round, slot.costing}]++
			at := [2]any{slot.point.ID, slot.round}
			if known, met := seeds[at]; met && known != slot.seed {
				t.Logf("two seeds in round %d of %s", slot.round, slot.point.ID)
				return false
			}
			seeds[at] = slot.seed
		}
		for i := range s.Points {
			for round := range s.Points[i].Trials {
				for _, name := range s.Points[i].Contenders {
					if seen[key{name, s.Points[i].ID, round, false}] != 1 {
						t.Logf("%s at %s in round %d: %d times", name, s.Points[i].ID, round, seen[key{name, s.Points[i].ID, round, false}])
						return false
					}
				}
			}
		}
		distinct := map[uint64]bool{}
		for _, seed := range seeds {
			distinct[seed] = true
		}
		costing := 0
		for k, n := range seen {
			if n != 1 {
				t.Logf("%+v: %d times", k, n)
				return false
			}
			if k.costing {
				costing++
			}
		}
		if s.Overhead != nil && costing != s.Overhead.Trials {
			t.Logf("%d trials cost the probes, want %d", costing, s.Overhead.Trials)
			return false
		}
		return len(distinct) == len(seeds)
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}

// The order changes with the seed and from round to round: a contender that
// always came first would always meet the same state of the disk.
func TestPlanShuffles(t *testing.T) {
	s := planned(1, []uint8{7}, 4, 0)
	s.Points[0].Contenders, s.Overhead = []string{"a", "b", "c", "d", "e"}, nil
	order := func(seed uint64) (text string) {
		s.Seed = seed
		for _, slot := range plan(s) {
			text += slot.contender
		}
		return text
	}
	one := order(1)
	if one == order(2) {
		t.Error("two seeds gave one order")
	}
	if one[:5] == one[5:10] && one[5:10] == one[10:15] {
		t.Errorf("rounds are not shuffled: %s", one)
	}
}

// In any even number of rounds each of a pair comes first equally often, and
// their places add up to the same: a drift over two rounds meets both alike. That
// holds for the trials without probes and their partners too.
func TestPlanBalancesPairs(t *testing.T) {
	property := func(seed uint64, contenders uint8) bool {
		s := planned(seed, []uint8{7, 3}, contenders, 9)
		s.Points[0].Trials, s.Points[1].Trials, s.Overhead.Trials = 8, 8, 8
		places := map[string]map[int]int{} // of each trial's place, by round
		for i, slot := range plan(s) {
			if places[slot.place()] == nil {
				places[slot.place()] = map[int]int{}
			}
			places[slot.place()][slot.round] = i
		}
		for a, ofA := range places {
			for b, ofB := range places {
				first, distance := 0, 0
				for round := range ofA {
					if ofA[round] < ofB[round] {
						first++
					}
					distance += ofA[round] - ofB[round]
				}
				if a != b && (first != 4 || distance != 0) {
					t.Logf("%s comes before %s in %d of 8 rounds, their places differ by %d in all", a, b, first, distance)
					return false
				}
			}
		}
		return len(places) >= 2
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}
