// Package quantity writes numbers for people: three significant digits with the
// unit's SI prefix, such as 1.23 ms, 412k/s or 3.40 GiB.
package quantity

import (
	"math"
	"strconv"
	"strings"
)

// Unit is what a number counts.
type Unit string

const (
	Ns      Unit = "ns"
	Bytes   Unit = "bytes"
	PerS    Unit = "/s"
	Ratio   Unit = "ratio" // shown as 12.3×
	Share   Unit = "share" // of 1, shown in percent
	Count   Unit = "count"
	BytesPS Unit = "bytes/s"
)

// NotMeasured stands for an absent number everywhere.
const NotMeasured = "not measured"

// Of maps the unit names in scenarios and results to a Unit; names that it does
// not know are kept and printed after the number.
func Of(name string) Unit {
	switch name {
	case "ns", "ns/op":
		return Unit(name)
	case "/s", "per_s", "ops/s", "records/s", "appends/s", "1/s":
		return PerS
	case "bytes", "B":
		return Bytes
	case "bytes/s", "B/s", "bytes_per_s":
		return BytesPS
	case "ratio", "x", "×":
		return Ratio
	case "share", "fraction":
		return Share
	case "", "count":
		return Count
	}
	return Unit(name)
}

// Format is value with its unit.
func (u Unit) Format(value float64) string {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return NotMeasured
	}
	switch u {
	case Ns:
		return duration(value)
	case "ns/op":
		return duration(value) + "/op"
	case Bytes:
		return binary(value)
	case BytesPS:
		return scaled(value, 1000, " ", "B/s", decimal)
	case PerS:
		return scaled(value, 1000, "", "/s", decimal)
	case Ratio:
		return Digits(value) + "×"
	case Share:
		return Digits(100*value) + "%"
	case Count:
		return scaled(value, 1000, "", "", decimal)
	}
	return scaled(value, 1000, "", "", decimal) + " " + string(u)
}

// Counted is n with its noun, which takes an s unless n is 1.
func Counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// FormatPtr is Format of a number that may be absent.
func (u Unit) FormatPtr(value *float64) string {
	if value == nil {
		return NotMeasured
	}
	return u.Format(*value)
}

var decimal = []string{"", "k", "M", "G", "T"}

func duration(ns float64) string {
	if math.Abs(ns) >= 999.5e9 {
		return Digits(ns/1e9) + " s"
	}
	return scaled(ns, 1000, " ", "s", []string{"n", "µ", "m", ""})
}

func binary(bytes float64) string {
	if math.Abs(bytes) < 1023.5 {
		return Digits(bytes) + " B"
	}
	return scaled(bytes, 1024, " ", "B", []string{"", "Ki", "Mi", "Gi", "Ti"})
}

// scaled divides by base until three digits before the point are enough.
func scaled(value, base float64, space, unit string, prefixes []string) string {
	i := 0
	for math.Abs(value) >= 999.5 && i < len(prefixes)-1 {
		value /= base
		i++
	}
	return Digits(value) + space + prefixes[i] + unit
}

// Digits is value with three significant digits, never in exponent form below
// 1e15, and without trailing zeros where the shorter number is exact.
func Digits(value float64) string {
	if value == 0 {
		return "0"
	}
	_, exponent, _ := strings.Cut(strconv.FormatFloat(value, 'e', 2, 64), "e") // of the rounded value: 0.9996 is 1.00
	magnitude, _ := strconv.Atoi(exponent)
	switch {
	case magnitude < -4 || magnitude >= 15:
		return strconv.FormatFloat(value, 'g', 3, 64)
	case magnitude >= 3:
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	text := strconv.FormatFloat(value, 'f', max(0, 2-magnitude), 64)
	short := strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	if exact, _ := strconv.ParseFloat(short, 64); strings.Contains(text, ".") && math.Abs(value-exact) < 1e-9*math.Abs(value) {
		return short // limits and whole numbers: the zeros would claim a measurement
	}
	return text
}
