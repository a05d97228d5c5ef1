internal import LinuxSystem
internal import ServiceSupport

extension Sandbox {
    /// The files that tdxd may reach, and its holders by inheritance: a holder's own fence leaves it less.
    static func fence(_ places: Places, _ configuration: TDXDConfiguration, program: HolderProgram, file: String?)
        -> FileSystemFence
    {
        var rules: [FileSystemFence.Rule] = [
            .init("/proc", .read, because: "the host's memory, processes, and what a descriptor stands for"),
            .init("/sys", .read, because: "KVM's parameters, kexec, NUMA nodes"),
            .init(
                "/sys/fs/cgroup", [.read, .writeFile, .truncate, .makeDirectory, .removeDirectory],
                because: "control groups, as far as they are tdxd's"),
            .init("/etc", .read, because: "the configuration, names of users and groups, the loader's cache"),
            .init("/dev/null", [.readFile, .writeFile], because: "what a child reads and says in vain"),
            // A reload of KVM makes the device anew, and a rule holds for what was there. Who is not root may open no other one.
            .init(
                CurrentProcess.effectiveUID == 0 ? "/dev/kvm" : "/dev", .device,
                because: "holders open /dev/kvm, also after KVM was reloaded"),
            .init(places.runtimeDirectory, .keep, because: "holders' directories, the lock"),
            .init(places.stateDirectory, .keep, because: "certificates, the drain"),
            .init(parent(of: places.socket), [.readDirectory, .makeSocket, .removeFile], because: "its own socket"),
            .init(parent(of: program.path), [.read, .execute], because: "the holder's program, also after an upgrade"),
            .init(
                configuration.backends.emulatedTraces ?? places.stateDirectory,
                [.readDirectory, .makeFile, .writeFile], because: "recordings, which holders make"),
        ]
        rules += libraryDirectories.map {
            .init($0, [.read, .execute], because: "the loader and the libraries of the holder's program")
        }
        if let file { rules.append(.init(parent(of: file), .read, because: "the configuration that was named")) }
        rules += (configuration.service.firmwareDirectories ?? ["/"]).map {
            .init($0, .read, because: "firmware that clients name")
        }
        return FileSystemFence(rules: rules)
    }

    private static func parent(of path: String) -> String {
        guard let end = path.lastIndex(of: "/") else { return "." }
        return end == path.startIndex ? "/" : String(path[..<end])
    }

    /// Where libraries are, and where those of this program came from: a holder uses the same.
    private static var libraryDirectories: [String] {
        var found: Set<String> = ["/usr", "/lib", "/lib64"]
        for line in ((try? TextFile.read("/proc/self/maps")) ?? "").split(separator: "\n") {
            guard let start = line.firstIndex(of: "/") else { continue }
            let path = String(line[start...])
            if path.contains(".so") { found.insert(parent(of: path)) }
        }
        return found.sorted()
    }
}
