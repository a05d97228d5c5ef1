internal import CLinux

/// How to start a program. The child gets nothing by accident: only descriptors 0, 1, 2 and those listed, no signal
/// blocked or ignored, exactly the environment given.
public struct ProgramStart: Sendable {
    /// An absolute path; PATH is not searched.
    public var path: String
    /// Without the program's own name.
    public var arguments: [String]
    /// `NAME=value`
    public var environment: [String]
    /// Nil: this process's.
    public var workingDirectory: String?
    /// A descriptor of this process and the number that the child finds it under. At most 64. 0, 1 and 2 are inherited
    /// unless they are listed as targets.
    public var descriptors: [(source: Int32, target: Int32)]
    /// setsid(2): away from the terminal, and from signals meant for this process's group.
    public var newSession: Bool
    /// Sent to the child when the *thread* that started it ends.
    public var parentDeathSignal: Signal?

    public init(
        path: String, arguments: [String] = [], environment: [String] = [], workingDirectory: String? = nil,
        descriptors: [(source: Int32, target: Int32)] = [], newSession: Bool = false, parentDeathSignal: Signal? = nil
    ) {
        self.path = path
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.descriptors = descriptors
        self.newSession = newSession
        self.parentDeathSignal = parentDeathSignal
    }

    /// fork(2) and execve(2). Returns when the program runs.
    /// - Throws: the errno of whatever failed in the child before the program ran: ENOENT, EACCES, EBADF, …; E2BIG for
    ///   more than 64 descriptors.
    public func start() throws(LinuxError) -> ProcessHandle {
        // The child runs between fork and execve with this memory's copy, so all of it is prepared here.
        let argumentCopies = ([path] + arguments).map { tdxd_copy_string($0) }
        let environmentCopies = environment.map { tdxd_copy_string($0) }
        defer { for copy in argumentCopies + environmentCopies { tdxd_free_string(copy) } }
        let sources = descriptors.map(\.source)
        let targets = descriptors.map(\.target)
        let parent = CurrentProcess.pid

        func spawn(_ directory: UnsafePointer<CChar>?) -> Int32 {
            path.withCString { path in
                (argumentCopies + [nil]).withUnsafeBufferPointer { arguments in
                    (environmentCopies + [nil]).withUnsafeBufferPointer { environment in
                        sources.withUnsafeBufferPointer { sources in
                            targets.withUnsafeBufferPointer { targets in
                                var request = tdxd_spawn()
                                request.path = path
                                request.arguments = arguments.baseAddress
                                request.environment = environment.baseAddress
                                request.directory = directory
                                request.sources = sources.baseAddress
                                request.targets = targets.baseAddress
                                request.descriptor_count = Int32(sources.count)
                                request.new_session = newSession ? 1 : 0
                                request.parent_death_signal = parentDeathSignal?.rawValue ?? 0
                                request.parent_pid = parent
                                return tdxd_spawn_program(&request)
                            }
                        }
                    }
                }
            }
        }
        let result = workingDirectory.map { $0.withCString { spawn($0) } } ?? spawn(nil)
        let pid = try LinuxError.check(result, "execve", path)
        // Only this process can reap the child, so its number still means it.
        return try ProcessHandle(pid: pid)
    }
}
