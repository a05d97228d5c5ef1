/// Issue by issue in the order of what a TD's life does: the map, allocation, conversion, release.
var memoryArea: [Bench.Group] {
    [
        Bench.Group(name: "map", measure: measureAttributeMap),
        Bench.Group(name: "allocate", measure: measureAllocation),
        Bench.Group(name: "convert", measure: measureConversion),
        Bench.Group(name: "control", measure: measureControl),
        Bench.Group(name: "inventory", measure: measureInventory),
        Bench.Group(name: "release", measure: measureRelease),
    ]
}
