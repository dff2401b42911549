package hardware

import "strings"

// part is a chip and its nominal memory bandwidth in GB/s (1e9 bytes), from
// the vendors' data sheets. Where variants of one name differ the slower one
// is listed. unified marks chips whose CPU uses the same memory.
type part struct {
	name    string
	gbps    float64
	unified bool
}

// parts are found by the longest name contained as whole words in the GPU's
// name, after [partName].
var parts = []part{
	// NVIDIA GeForce
	{"rtx 5090", 1792, false},
	{"rtx 5090 laptop", 896, false},
	{"rtx 5080", 960, false},
	{"rtx 5080 laptop", 896, false},
	{"rtx 5070 ti", 896, false},
	{"rtx 5070 ti laptop", 672, false},
	{"rtx 5070", 672, false},
	{"rtx 5070 laptop", 384, false},
	{"rtx 5060 ti", 448, false},
	{"rtx 5060", 448, false},
	{"rtx 5060 laptop", 384, false},
	{"rtx 4090", 1008, false},
	{"rtx 4090 laptop", 576, false},
	{"rtx 4080 super", 736, false},
	{"rtx 4080", 717, false},
	{"rtx 4080 laptop", 432, false},
	{"rtx 4070 ti super", 672, false},
	{"rtx 4070 ti", 504, false},
	{"rtx 4070 super", 504, false},
	{"rtx 4070", 504, false},
	{"rtx 4070 laptop", 256, false},
	{"rtx 4060 ti", 288, false},
	{"rtx 4060", 272, false},
	{"rtx 4060 laptop", 256, false},
	{"rtx 4050 laptop", 192, false},
	{"rtx 3090 ti", 1008, false},
	{"rtx 3090", 936, false},
	{"rtx 3080 ti", 912, false},
	{"rtx 3080 ti laptop", 512, false},
	{"rtx 3080", 760, false},
	{"rtx 3080 laptop", 384, false},
	{"rtx 3070 ti", 608, false},
	{"rtx 3070", 448, false},
	{"rtx 3070 laptop", 384, false},
	{"rtx 3060 ti", 448, false},
	{"rtx 3060", 360, false},
	{"rtx 3060 laptop", 336, false},
	{"rtx 3050", 168, false},
	{"rtx 3050 laptop", 168, false},
	{"rtx 2080 ti", 616, false},
	{"rtx 2080 super", 496, false},
	{"rtx 2080", 448, false},
	{"rtx 2070", 448, false},
	{"rtx 2060 super", 448, false},
	{"rtx 2060", 336, false},
	{"gtx 1080 ti", 484, false},
	{"gtx 1080", 320, false},
	{"gtx 1070 ti", 256, false},
	{"gtx 1070", 256, false},
	{"gtx 1060", 192, false},
	{"gtx 1660 super", 336, false},
	{"gtx 1660 ti", 288, false},
	{"gtx 1660", 192, false},
	{"gtx 1650", 128, false},
	{"gtx 1050 ti", 112, false},
	{"titan rtx", 672, false},
	{"titan v", 653, false},
	{"titan xp", 548, false},
	// NVIDIA workstation and server
	{"rtx pro 6000", 1597, false},
	{"rtx 6000 ada", 960, false},
	{"rtx 5000 ada", 576, false},
	{"rtx 4500 ada", 432, false},
	{"rtx 4000 ada", 360, false},
	{"rtx 4000 sff ada", 280, false},
	{"rtx 2000 ada", 224, false},
	{"rtx a6000", 768, false},
	{"rtx a5500", 768, false},
	{"rtx a5000", 768, false},
	{"rtx a4500", 640, false},
	{"rtx a4000", 448, false},
	{"rtx a2000", 288, false},
	{"quadro rtx 8000", 672, false},
	{"quadro rtx 6000", 672, false},
	{"quadro rtx 5000", 448, false},
	{"quadro rtx 4000", 416, false},
	{"b200", 7700, false},
	{"h200", 4800, false},
	{"h100", 2000, false},
	{"h100 80gb hbm3", 3350, false},
	{"gh200", 4000, false},
	{"a100", 1555, false},
	{"a100 sxm4 80gb", 2039, false},
	{"a100 80gb pcie", 1935, false},
	{"a40", 696, false},
	{"a30", 933, false},
	{"a10", 600, false},
	{"a10g", 600, false},
	{"l40s", 864, false},
	{"l40", 864, false},
	{"l4", 300, false},
	{"t4", 300, false},
	{"v100", 900, false},
	{"p100", 549, false},
	{"p40", 346, false},
	{"m40", 288, false},
	// NVIDIA with shared memory
	{"gb10", 273, true},
	{"thor", 273, true},
	{"agx orin", 204, true},
	{"orin nx", 102, true},
	{"orin nano", 68, true},
	{"orin", 68, true},
	{"agx xavier", 137, true},
	{"xavier", 59, true},
	// AMD cards
	{"rx 9070 xt", 640, false},
	{"rx 9070", 640, false},
	{"rx 9070 gre", 432, false},
	{"rx 9060 xt", 320, false},
	{"rx 9060", 288, false},
	{"ai pro r9700", 640, false},
	{"rx 7900 xtx", 960, false},
	{"rx 7900 xt", 800, false},
	{"rx 7900 gre", 576, false},
	{"rx 7900m", 576, false},
	{"rx 7800 xt", 624, false},
	{"rx 7700 xt", 432, false},
	{"rx 7600 xt", 288, false},
	{"rx 7600", 288, false},
	{"pro w7900", 864, false},
	{"pro w7800", 576, false},
	{"pro w7700", 576, false},
	{"pro w7600", 288, false},
	{"pro w6800", 512, false},
	{"rx 6950 xt", 576, false},
	{"rx 6900 xt", 512, false},
	{"rx 6800 xt", 512, false},
	{"rx 6800", 512, false},
	{"rx 6750 xt", 432, false},
	{"rx 6700 xt", 384, false},
	{"rx 6700", 320, false},
	{"rx 6650 xt", 280, false},
	{"rx 6600 xt", 256, false},
	{"rx 6600", 224, false},
	{"rx 6500 xt", 144, false},
	{"rx 5700 xt", 448, false},
	{"rx 5700", 448, false},
	{"rx 5600 xt", 288, false},
	{"radeon vii", 1024, false},
	{"rx vega", 410, false},
	{"rx 580", 256, false},
	{"rx 570", 224, false},
	{"rx 480", 224, false},
	{"mi50", 1024, false},
	{"mi60", 1024, false},
	{"mi100", 1229, false},
	{"mi210", 1638, false},
	{"mi250x", 1638, false},
	{"mi300x", 5300, false},
	{"mi325x", 6000, false},
	// AMD processors
	{"8060s", 256, true},
	{"8050s", 256, true},
	{"8040s", 256, true},
	{"8000s series", 256, true},
	{"ryzen ai max", 256, true},
	{"890m", 120, true},
	{"880m", 120, true},
	{"860m", 120, true},
	{"840m", 90, true},
	{"780m", 83, true},
	{"760m", 83, true},
	{"740m", 83, true},
	{"680m", 77, true},
	{"660m", 77, true},
	// Intel
	{"arc a770", 560, false},
	{"arc a750", 512, false},
	{"arc a580", 512, false},
	{"arc a380", 186, false},
	{"arc a310", 124, false},
	{"arc a770m", 512, false},
	{"arc a730m", 336, false},
	{"arc b580", 456, false},
	{"arc b570", 380, false},
	{"arc pro b60", 456, false},
	{"arc pro b50", 224, false},
	{"arc pro a60", 384, false},
	// Apple
	{"m1", 68, true},
	{"m1 pro", 200, true},
	{"m1 max", 400, true},
	{"m1 ultra", 800, true},
	{"m2", 100, true},
	{"m2 pro", 200, true},
	{"m2 max", 400, true},
	{"m2 ultra", 800, true},
	{"m3", 100, true},
	{"m3 pro", 150, true},
	{"m3 max", 300, true},
	{"m3 ultra", 819, true},
	{"m4", 120, true},
	{"m4 pro", 273, true},
	{"m4 max", 410, true},
	{"m5", 153, true},
}

// family is what is assumed of a GPU whose name is not in the table, and how
// well software gets at the bandwidth.
//
// efficiency is measured tokens per second times bytes of weights over nominal
// bandwidth:
//
//	nvidia         0.95  RTX 4090, 19.9 GB (32B Q4_K_M): 48.3 tok/s
//	amd card       0.58  RX 7900 XTX, 8B Q4_K_M: 105 tok/s is 0.54; larger models do better
//	amd processor  0.79  Ryzen AI MAX+ 395: 0.95 of the 212 GB/s it reaches of 256; 32B 10 tok/s
//	intel card     0.30  Arc A770, 8B Q4_K_M: 25 tok/s is 0.22; gemma2 2B 97 is 0.29
//	apple          0.60  M1 Max 8B Q4_K_M: 46 tok/s is 0.57; M4 0.86
//	nvidia shared  0.75  GB10, 8B at 4 bits: 38.7 tok/s is 0.70
//
// prefill is how many prompt tokens are read in the time of one written token
// (llama-bench pp512 over tg128): 7900 XTX 30, RTX 3090 32, M1 Max and M4 11,
// A770 6, GB10 45. Prompts in practice are shorter than 512 tokens or longer
// than the batch, so these are rounded down.
type family struct {
	gbps, efficiency, prefill float64
}

func familyOf(g GPU) family {
	switch {
	case g.Vendor == NVIDIA && g.Integrated:
		return family{60, 0.75, 20}
	case g.Vendor == NVIDIA:
		return family{190, 0.95, 30}
	case g.Vendor == AMD && g.Integrated:
		return family{50, 0.79, 12}
	case g.Vendor == AMD:
		return family{220, 0.58, 25}
	case g.Vendor == Apple:
		return family{68, 0.60, 10}
	case g.Vendor == Intel && g.Integrated:
		return family{40, 0.60, 5}
	case g.Vendor == Intel:
		return family{180, 0.30, 6}
	}
	return family{100, 0.60, 8}
}

// partByName indexes parts; longestPart is the most words any name has.
var partByName, longestPart = func() (map[string]part, int) {
	m, words := make(map[string]part, len(parts)), 0
	for _, p := range parts {
		m[p.name] = p
		words = max(words, 1+strings.Count(p.name, " "))
	}
	return m, words
}()

// partOf finds a GPU in the table: the longest run of words of its name that
// is there. The router asks for every candidate of every request.
func partOf(name string) (part, bool) {
	name = partName(name)
	var best part
	for from := 1; from < len(name); from++ {
		if name[from-1] != ' ' {
			continue
		}
		words := 0
		for to := from; to < len(name) && words < longestPart; to++ {
			if name[to] != ' ' {
				continue
			}
			words++
			if p, ok := partByName[name[from:to]]; ok && len(p.name) > len(best.name) {
				best = p
			}
		}
	}
	return best, best.name != ""
}

// partName lowers a name to words with a space on either side, without what
// vendors decorate it with.
func partName(name string) string {
	if len(name) > 200 {
		name = name[:200] // a peer's joke
	}
	name = undecorated.Replace(strings.ToLower(name))
	return " " + strings.Join(strings.Fields(name), " ") + " "
}

var undecorated = strings.NewReplacer("(r)", " ", "(tm)", " ", "geforce", " ", "-", " ", "/", " ", "(", " ", ")", " ", "+", " ")

// cpuBandwidth is what a processor's memory delivers in GB/s, by its name and
// bounded by what its cores can pull (about 5 GB/s each: a small virtual
// machine on a server with twelve channels does not get twelve channels).
func cpuBandwidth(cpu string, cores int) float64 {
	gbps := 20.0 // one channel of DDR4: half of what a desktop has
	name := partName(cpu)
	for _, c := range processors {
		if strings.Contains(name, c.word) {
			gbps = c.gbps
			break
		}
	}
	if cores <= 0 {
		cores = 4
	}
	return min(gbps, 5*float64(cores))
}

// processors are matched in order. Desktop memory: DDR5 dual channel 83, DDR4
// dual channel 45; servers by channels; Intel's 12th to 14th generation takes
// either kind, so it stands between.
var processors = []struct {
	word string
	gbps float64
}{
	{" threadripper pro 7", 300},
	{" threadripper pro 9", 300},
	{" threadripper 7", 150},
	{" threadripper 9", 150},
	{" threadripper pro", 180},
	{" threadripper", 90},
	{" epyc 9", 400},
	{" epyc 8", 200},
	{" epyc 7", 170},
	{" epyc 4", 83},
	{" epyc", 100},
	{" xeon platinum 84", 280},
	{" xeon platinum 85", 280},
	{" xeon gold 64", 280},
	{" xeon gold 65", 280},
	{" xeon platinum", 120},
	{" xeon gold", 120},
	{" xeon silver", 100},
	{" xeon w", 80},
	{" xeon e5", 60},
	{" xeon e", 40},
	{" xeon", 40},
	{" ryzen ai 9", 100},
	{" ryzen ai", 83},
	{" ryzen 3 7", 83},
	{" ryzen 5 7", 83},
	{" ryzen 7 7", 83},
	{" ryzen 9 7", 83},
	{" ryzen 3 8", 83},
	{" ryzen 5 8", 83},
	{" ryzen 7 8", 83},
	{" ryzen 9 8", 83},
	{" ryzen 5 9", 83},
	{" ryzen 7 9", 83},
	{" ryzen 9 9", 83},
	{" ryzen", 45},
	{" core ultra", 83},
	{" i3 12", 60},
	{" i5 12", 60},
	{" i7 12", 60},
	{" i9 12", 60},
	{" i3 13", 60},
	{" i5 13", 60},
	{" i7 13", 60},
	{" i9 13", 60},
	{" i3 14", 60},
	{" i5 14", 60},
	{" i7 14", 60},
	{" i9 14", 60},
	{" n100 ", 25},
	{" n97 ", 25},
	{" n95 ", 25},
	{" n150 ", 25},
	{" i3 ", 35},
	{" i5 ", 38},
	{" i7 ", 38},
	{" i9 ", 42},
	{" raspberry pi 5", 12},
	{" raspberry pi", 5},
}
