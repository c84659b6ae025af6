"""How many CPU cores feed one GPU: `python -m benchmarks.gpu_node --rate R`, R the images/s that one core decodes and crops.

No GPU was at hand: the GPUs' figures are published ones of ResNet-50, scaled to ResNet18 by the operations that torchvision states.
R is what `python -m benchmarks.limits` prints for one core.
"""

import argparse
import math

PUBLISHED = {  # images/s of ResNet-50 v1.5 in mixed precision at batch 256, NVIDIA DeepLearningExamples, container 21.03
    "T4": (1198.0, "inference"),
    "V100 16 GB": (3382.0, "inference"),
    "A100": (3382.0 * 2470 / 1200, "V100 inference × 2,470 / 1,200, A100 to V100 in training"),
}


def main() -> None:
    from torchvision.models import ResNet18_Weights, ResNet50_Weights

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, required=True, help="images/s that one core decodes and crops")
    chosen = parser.parse_args()
    lighter = ResNet50_Weights.IMAGENET1K_V1.meta["_ops"] / ResNet18_Weights.IMAGENET1K_V1.meta["_ops"]
    print(
        f"ResNet18 has {1 / lighter:.2f} of the operations of ResNet-50; one core decodes and crops {chosen.rate:,.0f} images/s\n"
    )
    print("| GPU | ResNet-50, published | source | ResNet18, scaled | cores to feed it | images/s with 8 cores | bound by |")
    print("|---|---|---|---|---|---|---|")
    for name, (rate, source) in PUBLISHED.items():
        scaled = rate * lighter
        eight = min(scaled, 8 * chosen.rate)
        bound = "CPU" if eight < scaled else "GPU"
        print(f"| {name} | {rate:,.0f} | {source} | {scaled:,.0f} | {math.ceil(scaled / chosen.rate)} | {eight:,.0f} | {bound} |")


if __name__ == "__main__":
    main()
