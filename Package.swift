// swift-tools-version: 6.2
import Glibc
import PackageDescription

/// Every target is built with the same strictness; CI sets TDXD_WARNINGS=errors.
let strict: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableExperimentalFeature("Lifetimes"),
    ] + (Context.environment["TDXD_WARNINGS"] == "errors" ? [.treatAllWarnings(as: .error)] : [])

let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let histogram = Target.Dependency.product(name: "Histogram", package: "hdrhistogram-swift")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")

func room(
    _ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource]? = nil, exclude: [String] = []
) -> Target {
    .target(name: name, dependencies: dependencies, exclude: exclude, resources: resources, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(
        name: name + "Tests", dependencies: dependencies, path: "Tests/\(name)Tests", exclude: exclude,
        swiftSettings: strict)
}

let package = Package(
    name: "tdxd",
    products: [
        .executable(name: "tdxd", targets: ["tdxd"]),
        .executable(name: "tdx-holder", targets: ["tdx-holder"]),
        .executable(name: "tdxctl", targets: ["tdxctl"]),
        .executable(name: "tdx-module-server", targets: ["tdx-module-server"]),
        // Preloaded into VMMs.
        .library(name: "tdxd-vmm", type: .dynamic, targets: ["VMMDoor"]),
        // For the tests of VMMs, in C: tdx_vmm.h.
        .library(name: "tdx-vmm", type: .dynamic, targets: ["VMMLibrary"]),
        .library(name: "TDXModule", targets: ["TDXModule"]),
        .library(name: "TDXEmulator", targets: ["TDXEmulator"]),
        // Rooms that the benchmarks, a package of their own, reach into.
        .library(
            name: "BenchmarkedRooms",
            targets: [
                "ConfidentialMemory", "ControlInterface", "FirmwareImage", "KVM", "LinuxSystem", "MemoryUnits",
                "TDXStatusCodes", "Varlink",
            ]),
        // Rooms that read what others wrote, for the fuzzer, a package of its own.
        .library(
            name: "FuzzedRooms",
            targets: [
                "ControlInterface", "FirmwareImage", "HolderLaunch", "MemoryUnits", "ServiceSupport", "TDXModule",
                "TDXStatusCodes", "Varlink",
            ]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // Doors to C: headers only.
        .systemLibrary(name: "CKVM"),
        .systemLibrary(name: "CLinux"),
        // What a process that must run no Swift runs.
        .target(name: "CLastWill"),
        .systemLibrary(name: "CGcrypt", pkgConfig: "libgcrypt", providers: [.apt(["libgcrypt20-dev"])]),
        .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),
        .systemLibrary(name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),

        // The ground floor: units, status codes, Linux.
        room("MemoryUnits"),
        room("TDXStatusCodes"),
        room("Hashing", ["CGcrypt"]),
        // The words of the project as types, checked when they are made.
        room("Terms", ["MemoryUnits"]),
        // A TD's end as one state machine; pure.
        room("DomainEnd", ["Terms"]),
        room("LinuxSystem", ["CLastWill", "CLinux", "MemoryUnits", system]),

        // Every process of the host that holds a VM, from outside.
        room("HostVMs", ["CLinux", "LinuxSystem", "MemoryUnits", system]),

        // The kernel's uAPI, the module, and the kernel's half in software.
        room("KVM", ["CKVM", "CLinux", "LinuxSystem", "MemoryUnits", "TDXStatusCodes", system]),
        room("TDXModule", ["Hashing", "MemoryUnits", "TDXStatusCodes"]),
        room(
            "TDXEmulator",
            ["KVM", "LinuxSystem", "MemoryUnits", "TDXModule", "TDXStatusCodes", "TransitionModel", system]),

        // A guest kernel's page transitions, explored; knows nothing of KVM.
        room("TransitionModel"),

        // What `tdxctl run` and the library in a VMM's process say to each other: guests and their scripts, settings,
        // the report.
        room("VMMTerms"),
        // A VMM's raw KVM requests, answered by the emulator over a real VM.
        room(
            "VMMEngine",
            [
                "CKVM", "CLinux", "KVM", "LinuxSystem", "MemoryUnits", "TDXEmulator", "TDXModule",
                "TDXStatusCodes", "TransitionModel", "VMMTerms", system,
            ]),

        // The library in a VMM's process: its own open, ioctl and close, and the engine behind them. It carries the
        // Swift runtime and exports nothing else than what it takes the place of.
        .target(name: "CVMMDoor", exclude: ["exported.map"]),
        .target(
            name: "VMMDoor",
            dependencies: ["CLinux", "CVMMDoor", "LinuxSystem", "VMMEngine", "VMMTerms", system],
            swiftSettings: strict,
            linkerSettings: [
                .unsafeFlags([
                    "-static-stdlib", "-Xlinker",
                    "--version-script=\(Context.packageDirectory)/Sources/CVMMDoor/exported.map",
                    "-Xlinker", "-soname=libtdxd-vmm.so",
                    "-lFoundationEssentials", "-l_FoundationCollections", "-l_FoundationCShims",
                ])
            ]),

        // The engine for C.
        .target(name: "CTDXVMM", exclude: ["exported.map"]),
        .target(
            name: "VMMLibrary", dependencies: ["CLinux", "CTDXVMM", "VMMEngine", "VMMTerms"], swiftSettings: strict,
            linkerSettings: [
                .unsafeFlags([
                    "-static-stdlib", "-Xlinker",
                    "--version-script=\(Context.packageDirectory)/Sources/CTDXVMM/exported.map",
                    "-Xlinker", "-soname=libtdx-vmm.so",
                    "-lFoundationEssentials", "-l_FoundationCollections", "-l_FoundationCShims",
                ])
            ]),

        // The module as a process beside a machine in which Linux's own TDX code runs.
        room(
            "TDXModuleServer", ["LinuxSystem", "MemoryUnits", "TDXModule", "TDXStatusCodes", system]),

        // Confidential memory and what is loaded into it.
        room("FirmwareImage", ["MemoryUnits"]),
        room(
            "ConfidentialMemory",
            [
                "FirmwareImage", "Hashing", "KVM", "LinuxSystem", "MemoryUnits", "TDXStatusCodes", "Terms", deque,
                histogram, system,
            ]),

        // The control plane.
        room("Varlink", ["CLinux", "LinuxSystem", system, deque]),
        // Writes ControlInterface's types from its .varlink files; scripts/generate-interfaces calls it.
        room("InterfaceGenerator", ["Varlink"]),
        .executableTarget(
            name: "varlink-generate", dependencies: ["InterfaceGenerator", "LinuxSystem", "Varlink", argumentParser],
            swiftSettings: strict),
        room(
            "ControlInterface", ["MemoryUnits", "Terms", "Varlink"],
            resources: [.embedInCode("io.tdxd.Manager.varlink"), .embedInCode("io.tdxd.Holder.varlink")]),
        room("ServiceSupport", ["CLinux", "CSeccomp", "CSystemd", "LinuxSystem", "MemoryUnits", logging, system]),

        // What tdxd and its launcher of holders say to each other.
        room("HolderLaunch", ["LinuxSystem", "MemoryUnits", "ServiceSupport", logging, system]),

        // The programs.
        room(
            "TDHolder",
            [
                "CLinux", "ConfidentialMemory", "ControlInterface", "FirmwareImage", "HolderLaunch", "KVM",
                "LinuxSystem",
                "MemoryUnits", "ServiceSupport", "TDXEmulator", "TDXModule", "TDXStatusCodes", "Terms", "Varlink",
                logging,
                system,
            ]),
        room(
            "TDXDaemon",
            [
                "CLinux", "ControlInterface", "DomainEnd", "HolderLaunch", "HostVMs", "LinuxSystem", "MemoryUnits",
                "ServiceSupport", "TDXStatusCodes", "Terms", "Varlink", logging, system,
            ]),
        room(
            "TDXControl",
            [
                "CLinux", "ControlInterface", "HostVMs", "LinuxSystem", "MemoryUnits", "TDXStatusCodes", "Terms",
                "TransitionModel", "VMMTerms", "Varlink",
                argumentParser, system,
            ]),
        .executableTarget(name: "tdxd", dependencies: ["TDXDaemon", argumentParser], swiftSettings: strict),
        .executableTarget(
            name: "tdx-holder",
            dependencies: ["TDHolder", "ControlInterface", "ServiceSupport", argumentParser, logging],
            swiftSettings: strict),
        .executableTarget(name: "tdxctl", dependencies: ["TDXControl"], swiftSettings: strict),
        .executableTarget(
            name: "tdx-module-server",
            dependencies: ["TDXModuleServer", "MemoryUnits", "TDXModule", argumentParser], swiftSettings: strict),

        // What tests of several rooms share.
        .target(
            name: "TestSupport", dependencies: ["LinuxSystem", system], path: "Tests/TestSupport", swiftSettings: strict
        ),
        // Answers of hostile programs, for tests on both sides of an interface.
        .target(
            name: "InterfaceTestSupport", dependencies: ["TestSupport", "Varlink"], path: "Tests/InterfaceTestSupport",
            swiftSettings: strict),
        tests("MemoryUnits", ["MemoryUnits"]),
        tests("TDXStatusCodes", ["TDXStatusCodes"]),
        tests("Hashing", ["Hashing"]),
        tests("Terms", ["Terms"]),
        tests("LinuxSystem", ["CLinux", "LinuxSystem", "MemoryUnits", "TestSupport", system]),
        tests("HostVMs", ["HostVMs", "LinuxSystem"], exclude: ["stand-in-vmm.py"]),
        tests("KVM", ["KVM", "CKVM", "HostVMs", "LinuxSystem", "MemoryUnits", "TDXStatusCodes", system]),
        tests("TDXModule", ["TDXModule", "MemoryUnits", "TDXStatusCodes", "TestSupport"]),
        tests(
            "TDXEmulator",
            [
                "TDXEmulator", "TDXModule", "KVM", "LinuxSystem", "MemoryUnits", "TDXStatusCodes", "TestSupport",
                "TransitionModel", system,
            ]),
        tests("TransitionModel", ["TransitionModel"]),
        tests("VMMTerms", ["VMMTerms"]),
        tests(
            "VMMEngine",
            ["VMMEngine", "CKVM", "CLinux", "KVM", "LinuxSystem", "MemoryUnits", "VMMTerms", system]),
        tests("DomainEnd", ["DomainEnd", "Terms"]),
        tests(
            "TDXModuleServer",
            [
                "TDXModuleServer", "LinuxSystem", "MemoryUnits", "TDXModule", "TDXStatusCodes", system,
                // Built with the tests, so that the whole program can be started.
                "tdx-module-server",
            ]),
        tests("FirmwareImage", ["FirmwareImage", "Hashing", "MemoryUnits", "TestSupport"]),
        tests(
            "ConfidentialMemory",
            [
                "ConfidentialMemory", "FirmwareImage", "KVM", "LinuxSystem", "MemoryUnits", "TDXEmulator",
                "TDXStatusCodes", "TestSupport", system,
            ]),
        tests("Varlink", ["Varlink", "ControlInterface", "LinuxSystem", "TestSupport", system], exclude: ["Python"]),
        tests("InterfaceGenerator", ["InterfaceGenerator", "Varlink"]),
        tests("ControlInterface", ["ControlInterface", "Terms", "Varlink"]),
        // A program that the tests of ServiceSupport start: what it does cannot be undone in a process.
        .executableTarget(
            name: "service-support-helper",
            dependencies: ["LinuxSystem", "MemoryUnits", "ServiceSupport", logging, system],
            path: "Tests/ServiceSupportHelper", swiftSettings: strict),
        tests(
            "ServiceSupport",
            ["ServiceSupport", "CLinux", "LinuxSystem", "MemoryUnits", system, logging, "service-support-helper"]),
        tests(
            "TDXControl",
            [
                "TDXControl", "ControlInterface", "HostVMs", "InterfaceTestSupport", "LinuxSystem", "MemoryUnits",
                "TDXStatusCodes", "TestSupport", "VMMTerms", "Varlink", argumentParser, system,
            ]),
        // What documents state about the code.
        tests(
            "Documents",
            ["ControlInterface", "MemoryUnits", "ServiceSupport", "TDXControl", "Varlink", argumentParser]),
        tests("HolderLaunch", ["HolderLaunch", "LinuxSystem", "MemoryUnits", "ServiceSupport", system]),
        tests(
            "TDHolder",
            [
                "TDHolder", "CLinux", "ConfidentialMemory", "ControlInterface", "FirmwareImage", "HolderLaunch", "KVM",
                "LinuxSystem", "MemoryUnits", "ServiceSupport", "Varlink", system,
                // Built with the tests, so that the whole program can be started.
                "tdx-holder",
            ]),
        tests(
            "TDXDaemon",
            [
                "TDXDaemon", "ControlInterface", "DomainEnd", "HostVMs", "HolderLaunch", "InterfaceTestSupport",
                "LinuxSystem", "MemoryUnits", "ServiceSupport", "Terms", "TestSupport", "Varlink", logging, system,
            ]),
        tests(
            "System",
            [
                "CLinux", "ControlInterface", "LinuxSystem", "MemoryUnits", "ServiceSupport", "Terms", "TestSupport",
                "Varlink", system,
                // Built with the tests, so that whole programs can be started.
                "tdxd", "tdx-holder", "tdxctl",
            ]),
    ],
    swiftLanguageModes: [.v6]
)

// TDXD_ROOMS=Varlink,TDXModule keeps these rooms, what they and their tests import, and their tests. scripts/test
// uses it. Packages that are depended on stay, so that Package.resolved is the same for every choice.
if let rooms = Context.environment["TDXD_ROOMS"], !rooms.isEmpty {
    keep(rooms.split(separator: ",").map(String.init))
}

@MainActor func keep(_ rooms: [String]) {
    let targets = Dictionary(uniqueKeysWithValues: package.targets.map { ($0.name, $0) })
    var open: [String] = []
    for room in rooms {
        let found = [room, room + "Tests"].filter { targets[$0] != nil }
        guard !found.isEmpty else {
            let known = targets.keys.map { $0.hasSuffix("Tests") ? String($0.dropLast(5)) : $0 }
            print("TDXD_ROOMS: unknown room \(room); rooms: \(Set(known).sorted().joined(separator: " "))")
            exit(1)
        }
        open += found
    }
    var kept: Set<String> = []
    while let name = open.popLast() {
        guard let target = targets[name], kept.insert(name).inserted else { continue }
        for dependency in target.dependencies {
            switch dependency {
            case .byNameItem(let name, _), .targetItem(let name, _): open.append(name)
            default: break
            }
        }
    }
    package.targets.removeAll { !kept.contains($0.name) }
    package.products.removeAll { product in
        switch product {
        case let library as Product.Library: !kept.isSuperset(of: library.targets)
        case let program as Product.Executable: !kept.isSuperset(of: program.targets)
        default: false
        }
    }
}
