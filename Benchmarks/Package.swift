// swift-tools-version: 6.1
import PackageDescription

/// The regression benchmarks build on ordo-one/benchmark, which takes minutes to build; scripts/bench does without them.
/// `TDXD_REGRESSION=1 swift package benchmark` has them.
let hasRegression = Context.environment["TDXD_REGRESSION"] != nil

let rooms: [Target.Dependency] = [
    .product(name: "BenchmarkedRooms", package: "tdxd"),
    .product(name: "TDXModule", package: "tdxd"),
    .product(name: "TDXEmulator", package: "tdxd"),
]

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let package = Package(
    name: "tdxd-benchmarks",
    dependencies: [
        .package(name: "tdxd", path: ".."),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ]
        + (hasRegression
            ? [.package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: [])] : []),
    targets: [
        // What is measured against, in C.
        .target(
            name: "CPeers", path: "Peers", cSettings: [.unsafeFlags(["-O3"])],
            linkerSettings: [.linkedLibrary("roaring")]),
        .executableTarget(
            name: "bench",
            dependencies: rooms + [
                "CPeers", .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
    ]
        + (hasRegression
            ? [
                .executableTarget(
                    name: "Regression",
                    dependencies: rooms + [.product(name: "Benchmark", package: "benchmark")],
                    path: "Regression", swiftSettings: strict,
                    plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
            ] : []),
    swiftLanguageModes: [.v6]
)
