internal import HolderLaunch
internal import LinuxSystem
internal import ServiceSupport

/// What the launcher, and so every holder at its start, may do: a holder narrows both down for itself once it serves.
enum LauncherSandbox {
    /// All that a holder may, and starting it.
    static var filter: SystemCallFilter { .daemon() }

    /// - Parameter program: the path of `tdx-holder`.
    static func fence(_ options: LauncherOptions, program: String) -> FileSystemFence {
        var rules: [FileSystemFence.Rule] = [
            .init("/proc", .read, because: "the host's memory and CPU, and what a holder itself has"),
            .init("/sys", .read, because: "KVM's parameters, control groups, NUMA nodes"),
            .init("/etc/ld.so.cache", .read, because: "where libraries are"),
            .init("/etc/localtime", .read, because: "the C library's clock"),
            .init("/dev/null", [.readFile, .writeFile], because: "what a child reads and writes in vain"),
            // A reload of KVM makes the device anew, and a rule holds for what was there. Who is not root may open no other one.
            .init(
                CurrentProcess.effectiveUID == 0 ? "/dev/kvm" : "/dev", .device,
                because: "holders open /dev/kvm, also after KVM was reloaded"),
            .init(
                LaunchPlaces.holders(in: options.runtimeDirectory), .keep, because: "holders' directories"),
            .init(
                parentDirectory(of: program), [.read, .execute], because: "the holder's program, also after an upgrade"),
        ]
        if let traces = options.traces {
            rules.append(
                .init(traces, [.readDirectory, .makeFile, .writeFile], because: "recordings, which holders make"))
        }
        rules += ProgramFiles.libraryDirectories.map {
            .init($0, [.read, .execute], because: "the loader and the libraries of the holder's program")
        }
        return FileSystemFence(rules: rules)
    }
}
