// swift-tools-version: 6.1
import PackageDescription

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
    ],
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
    ],
    swiftLanguageModes: [.v6]
)
