/**
 * Launch templates as far as node groups use them: the user data that is added to a node's own (a `NodeConfig`, as eksctl writes
 * for `maxPodsPerNode`). One version each; every other member of the data is refused by name.
 */
import type { Ec2Actions, LaunchTemplate as LaunchTemplateOutput } from "@underlay/aws/generated/ec2-types";
import { ApiError } from "../protocol/api-error.ts";
import { refuseOthers } from "../protocol/nested.ts";
import type { OperationsOf } from "../protocol/service.ts";
import type { World } from "../store/kinds.ts";
import { applyFilters, type FilterTable, type Tags } from "./filters.ts";
import { find, newId } from "./ids.ts";
import { pageOf } from "./pages.ts";
import { tagList, tagsFrom } from "./tags.ts";

export type LaunchTemplate = {
  readonly id: string;
  readonly name: string;
  readonly description?: string;
  /** Base64, as given. */
  readonly userData?: string;
  readonly createdAt: string;
  readonly createdBy: string;
  readonly tags: Tags;
};

type Naming = { LaunchTemplateId?: string | undefined; LaunchTemplateName?: string | undefined };

export const launchTemplateOperations = (world: World): OperationsOf<Ec2Actions> => ({
  CreateLaunchTemplate: {
    takes: ["LaunchTemplateName", "VersionDescription", "LaunchTemplateData", "TagSpecifications"],
    run({ LaunchTemplateName: name = "", VersionDescription, LaunchTemplateData, TagSpecifications }, { principal }) {
      if (!/^[\w()./-]{3,128}$/.test(name))
        throw new ApiError(
          "InvalidLaunchTemplateName.MalformedException",
          `The launch template name '${name}' is not valid`,
        );
      if (world.store.all("launch-template").some((one) => one.name === name))
        throw new ApiError("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.");
      refuseOthers(LaunchTemplateData, ["UserData"], "LaunchTemplateData", "UnsupportedOperation");
      const template = world.store.put("launch-template", {
        id: newId("lt-"),
        name,
        ...(VersionDescription === undefined ? {} : { description: VersionDescription }),
        ...(LaunchTemplateData?.UserData === undefined ? {} : { userData: LaunchTemplateData.UserData }),
        createdAt: world.now().toISOString(),
        createdBy: principal.arn,
        tags: tagsFrom(TagSpecifications, "launch-template"),
      });
      return { LaunchTemplate: render(template) };
    },
  },

  DescribeLaunchTemplates: {
    takes: ["LaunchTemplateIds", "LaunchTemplateNames", "Filters", "MaxResults", "NextToken"],
    run(input) {
      const named = [
        ...(input.LaunchTemplateIds ?? []).map((LaunchTemplateId) => findTemplate(world, { LaunchTemplateId })),
        ...(input.LaunchTemplateNames ?? []).map((LaunchTemplateName) => findTemplate(world, { LaunchTemplateName })),
      ];
      const given = named.length > 0 ? named : world.store.all("launch-template");
      const { page, ...next } = pageOf(applyFilters(given, input.Filters, filters), input, { most: 200 });
      return { LaunchTemplates: page.map(render), ...next };
    },
  },

  DescribeLaunchTemplateVersions: {
    takes: ["LaunchTemplateId", "LaunchTemplateName", "Versions"],
    run(input) {
      const template = findTemplate(world, input);
      for (const version of input.Versions ?? []) requireVersion(template, version);
      return {
        LaunchTemplateVersions: [
          {
            LaunchTemplateId: template.id,
            LaunchTemplateName: template.name,
            VersionNumber: 1,
            ...(template.description === undefined ? {} : { VersionDescription: template.description }),
            CreateTime: new Date(template.createdAt),
            CreatedBy: template.createdBy,
            DefaultVersion: true,
            LaunchTemplateData: template.userData === undefined ? {} : { UserData: template.userData },
          },
        ],
      };
    },
  },

  DeleteLaunchTemplate: {
    takes: ["LaunchTemplateId", "LaunchTemplateName"],
    run(input) {
      const template = findTemplate(world, input);
      world.store.remove("launch-template", template.id);
      return { LaunchTemplate: render(template) };
    },
  },
});

/** By id or by name. */
export function findTemplate(world: World, { LaunchTemplateId, LaunchTemplateName }: Naming): LaunchTemplate {
  if (LaunchTemplateId !== undefined) return find(world, "launch-template", LaunchTemplateId);
  const found = world.store.all("launch-template").find((one) => one.name === LaunchTemplateName);
  if (found === undefined)
    throw new ApiError(
      "InvalidLaunchTemplateName.NotFoundException",
      "At least one of the launch templates specified in the request does not exist.",
    );
  return found;
}

export function requireVersion(template: LaunchTemplate, version: string): void {
  if (!["1", "$Latest", "$Default"].includes(version))
    throw new ApiError(
      "InvalidLaunchTemplateId.VersionNotFound",
      `Could not find launch template version ${version} for template ${template.id}`,
    );
}

function render(template: LaunchTemplate): LaunchTemplateOutput {
  return {
    LaunchTemplateId: template.id,
    LaunchTemplateName: template.name,
    CreateTime: new Date(template.createdAt),
    CreatedBy: template.createdBy,
    DefaultVersionNumber: 1,
    LatestVersionNumber: 1,
    Tags: tagList(template.tags),
  };
}

const filters: FilterTable<LaunchTemplate> = {
  "create-time": (template) => [template.createdAt],
  "launch-template-name": (template) => [template.name],
};
