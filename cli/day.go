package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nexuscore-labs/nexus/labs"
)

// dayValue is the flag that names a lab by its day: 7, day7 or day07.
type dayValue struct{ day *int }

func (d dayValue) String() string {
	if d.day == nil {
		return "0"
	}
	return strconv.Itoa(*d.day)
}

func (d dayValue) Set(text string) error {
	day, err := strconv.Atoi(strings.TrimPrefix(strings.ToLower(text), "day"))
	if err != nil || day < 0 {
		_, err := labs.ByName(text)
		return fmt.Errorf("which day? %w", err)
	}
	*d.day = day
	return nil
}

func (d dayValue) Type() string { return "day" }
