// Package labs is the registry of labs: one line each.
package labs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nexuscore-labs/nexus/labs/day03"
	"github.com/nexuscore-labs/nexus/labs/day07"
	"github.com/nexuscore-labs/nexus/labs/day10"
	"github.com/nexuscore-labs/nexus/labs/day20"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// All returns every lab, by day.
func All() []*scenarios.Lab {
	return []*scenarios.Lab{
		day03.Lab(),
		day07.Lab(),
		day10.Lab(),
		day20.Lab(),
	}
}

// ByDay returns the lab of a day.
func ByDay(day int) (*scenarios.Lab, error) {
	for _, lab := range All() {
		if lab.Day == day {
			return lab, nil
		}
	}
	return nil, unknown(strconv.Itoa(day))
}

// ByName returns the lab that "day07", "day7" or "7" names.
func ByName(name string) (*scenarios.Lab, error) {
	day, err := strconv.Atoi(strings.TrimPrefix(strings.ToLower(name), "day"))
	if err != nil {
		return nil, unknown(name)
	}
	return ByDay(day)
}

func unknown(name string) error {
	var have []string
	for _, lab := range All() {
		have = append(have, fmt.Sprintf("day%02d", lab.Day))
	}
	return fmt.Errorf("there is no lab %q; there is: %s", name, strings.Join(have, ", "))
}
