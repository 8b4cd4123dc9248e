{
  "target_defaults": {
    "cflags": ["-O2", "-Wall", "-Wextra"],
    "defines": ["_GNU_SOURCE"]
  },
  "targets": [
    {
      "target_name": "mesh",
      "sources": [
        "addon/addon.cc",
        "addon/bpf.cc",
        "addon/bpf-object.cc",
        "addon/credentials.cc",
        "addon/errors.cc",
        "addon/netlink-socket.cc",
        "addon/netns.cc",
        "addon/poll-handle.cc",
        "addon/process-watch.cc",
        "addon/sockets.cc",
        "addon/spawn.cc",
        "addon/static-libbpf.c"
      ],
      # Statically, so that a package needs no library; static-libbpf.c is the reason for --wrap.
      "libraries": [
        "-Wl,-Bstatic <!(pkg-config --static --libs libbpf) -Wl,-Bdynamic",
        "-Wl,--wrap=stderr,--exclude-libs,ALL,--gc-sections"
      ],
      # Without the last one an exception thrown while a worker is being terminated aborts the process.
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_CPP_EXCEPTIONS",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags!": ["-fno-omit-frame-pointer"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++14", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": [
        "-std=c++17",
        "-fexceptions",
        "-fvisibility=hidden",
        "-isystem",
        "<!(node -p \"require('node:path').dirname(require.resolve('node-addon-api'))\")"
      ]
    },
    {
      "target_name": "mesh-task",
      "type": "executable",
      "product_extension": "",
      "sources": [
        "task/mesh-task.c",
        "task/common.c",
        "task/environment.c",
        "task/log.c",
        "task/namespaces.c",
        "task/privileges.c",
        "task/probe.c",
        "task/user.c"
      ],
      "cflags_c": ["-std=c11", "-fPIE"],
      # Static, because it runs as root before it becomes the task: no dynamic loader that an environment could redirect.
      "ldflags": ["-static-pie"]
    }
  ]
}
